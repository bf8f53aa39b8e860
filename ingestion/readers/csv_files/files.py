"""CSV files: what is found out about a file is told, then chunk after chunk of whole lines is parsed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np

from foundation.errors import SourceError
from foundation.sources import CsvSource
from ingestion.names import snake_case
from ingestion.parcels import Batch, DeadLetter, Parcel, ParcelDraft
from ingestion.readers.ahead import in_order
from ingestion.readers.csv_files.chunk import read_chunk
from ingestion.readers.csv_files.dialect import Dialect, NoTableError, find_dialect
from ingestion.readers.csv_files.encodings import BYTE_ORDER_MARK, HEAD_BYTES, Text, explain_undecodable, open_text
from ingestion.readers.csv_files.frame import LONGEST_RECORD_LINES, record_end
from ingestion.readers.csv_files.parse import Table
from ingestion.readers.framing import (
    Chunk,
    KnownPrefix,
    Lines,
    Places,
    read_chunks,
    set_lines_aside,
    set_overlong_aside,
)
from ingestion.stores import StoredFile

# Beyond this a message names no further column.
MOST_NAMES_TOLD = 20
# That of a file which shows no table.
NO_DIALECT = "{}"
Notice = Callable[[str], None]


def read_csv_file(
    file: StoredFile,
    name: str,
    source: CsvSource,
    known: KnownPrefix | None,
    batch: Batch,
    notice: Notice,
    expected: Sequence[str] = (),
) -> Iterator[Parcel]:
    """The parcels of what is new in a CSV file; none when nothing is. Raises SourceError when it cannot be read.

    `expected` are the columns that the source had so far: those that are gone are dealt with as its schema_drift says.
    """
    with file.open() as stored:
        text = open_text(stored, source.encoding)
        if not text.head:
            notice(f"{file.location} is empty")
            return
        try:
            dialect = _dialect(text, source)
        except NoTableError as error:
            if text.head.removeprefix(BYTE_ORDER_MARK).strip() or len(text.head) == HEAD_BYTES:
                draft = ParcelDraft(batch, name, "csv", file.location, "", NO_DIALECT)
                yield from _whole_file(text, known, draft, str(error))
            else:
                notice(f"{file.location} holds only blank lines")
            return
        table = Table(dialect.columns, dialect.delimiter, dialect.quote, dialect.escape)
        cut = partial(record_end, table=table)
        chunks = read_chunks(text.stream, known, cut=cut)
        first = next(chunks, None)
        mark = ""
        if known is not None and (first is None or first.offset) and (changed := _changes(known.dialect, dialect)):
            # The bytes are as they were and what they are read as is not: the same lines would pass for repeats of
            # those that were read before.
            notice(f"{file.location} shows another dialect than before ({changed}); read anew from its start")
            mark, expected = _mark(dialect.to_json()), ()
            text.stream.seek(0)
            chunks = read_chunks(text.stream, None, cut=cut)
            first = next(chunks, None)
        if first is None:
            return
        gone = [column for column in dict.fromkeys((*source.columns, *expected)) if column not in dialect.columns]
        if first.offset == 0:
            _tell(text, dialect, source, file.location, notice)
        read: Callable[..., Parcel] = partial(_read, encoding=text.encoding)
        if gone and source.schema_drift == "freeze":
            raise SourceError(
                f"{name}: columns gone: {_listed(gone)}; nothing of the file is loaded",
                where=file.location,
                fix="mend the file, or set schema_drift: evolve in penstock.yml",
            )
        if gone and source.schema_drift == "dead_letter":
            notice(f"{file.location}: columns gone: {_listed(gone)}; its records are dead letters")
            read = partial(_set_aside, problem=f"columns gone: {_listed(gone)}")
        yield from in_order(
            partial(
                read,
                ParcelDraft(batch, name, "csv", file.location, chunk.prefix_hash + mark, dialect.to_json()),
                chunk,
                table,
                dialect.header_bytes if chunk.offset == 0 else 0,
            )
            for chunk in chain([first], chunks)
        )


def _dialect(text: Text, source: CsvSource) -> Dialect:
    lines = text.whole_lines()
    if not lines:
        raise NoTableError(f"its first line does not end within {HEAD_BYTES >> 20} MB")
    return find_dialect(lines, source)


def reads_alike(file: StoredFile, source: CsvSource, known: KnownPrefix) -> bool:
    """Whether a file that begins as `known` is still read with the dialect that it was read with.

    Raises OSError, EOFError or SourceError.
    """
    with file.open() as stored:
        text = open_text(stored, source.encoding)
        try:
            return not _changes(known.dialect, _dialect(text, source))
        except NoTableError:
            return known.dialect in (None, NO_DIALECT)


def _changes(before: str | None, dialect: Dialect) -> str:
    """In what a dialect differs from the one before; nothing where that is not known."""
    if before is None or before == dialect.to_json():
        return ""
    then, now = json.loads(before), json.loads(dialect.to_json())
    return ", ".join(part for part in now if part not in then or then[part] != now[part])


def _mark(dialect: str) -> str:
    return f"-{hashlib.sha256(dialect.encode()).hexdigest()[:16]}"


def _tell(text: Text, dialect: Dialect, source: CsvSource, location: str, notice: Notice) -> None:
    """Tell what was found out and differs from UTF-8, commas, double quotes and a header; and columns renamed."""
    if found := [*filter(None, [text.found]), *dialect.found]:
        notice(f"{location} is read with {'; '.join(found)}")
    columns = dialect.columns
    if dialect.header:
        repeated = [
            column
            for column, heading in zip(columns, dialect.headings, strict=True)
            if column != (snake_case(heading) or None)
        ]
        if repeated:
            notice(f"{location}: headings that are there twice or empty, kept as {_listed(repeated)}")
        if text.head.count(b"\n") <= 1 and len(text.head) == dialect.header_bytes:
            notice(f"{location} has a header and no records")
    elif source.columns and len(columns) != len(source.columns):
        extra = columns[len(source.columns) :]
        missing = source.columns[len(columns) :]
        what = f"more than its columns, named {_listed(extra)}" if extra else f"without {_listed(missing)}"
        notice(f"{location} has {len(columns)} fields a line, {what}")


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMES_TOLD
    return ", ".join(names[:MOST_NAMES_TOLD]) + (f" and {rest} more" if rest > 0 else "")


def _whole_file(text: Text, known: KnownPrefix | None, draft: ParcelDraft, problem: str) -> Iterator[Parcel]:
    """One dead letter for all of a file, however large; nothing where it is known as it is."""
    digest, size, newlines, last = hashlib.sha256(), 0, 0, b""
    text.stream.seek(0)
    while block := text.stream.read(HEAD_BYTES):
        digest.update(block)
        size, newlines, last = size + len(block), newlines + block.count(b"\n"), block[-1:]
    draft.content_hash = digest.hexdigest()
    if known is not None and (known.position_bytes, known.content_hash) == (size, draft.content_hash):
        if known.dialect in (None, NO_DIALECT):
            return
        draft.content_hash += _mark(NO_DIALECT)
    draft.letters.append(DeadLetter("unreadable_file", problem, text.head, line=1, byte_offset=0, byte_length=size))
    yield draft.seal(columns=[], size_bytes=size, position_bytes=size, lines=newlines + (last != b"\n"))


def _read(draft: ParcelDraft, chunk: Chunk, table: Table, header_bytes: int, *, encoding: str) -> Parcel:
    parcel = read_chunk(draft, chunk, table, header_bytes)
    return replace(parcel, dead_letters=explain_undecodable(parcel.dead_letters, encoding))


def _set_aside(draft: ParcelDraft, chunk: Chunk, table: Table, header_bytes: int, *, problem: str) -> Parcel:
    """Every record of a chunk as a dead letter; blank lines are skipped as ever."""
    body = chunk.after(header_bytes)
    lines = Lines(body.data)
    skipped = 0
    if body.is_overlong:
        set_overlong_aside(draft, body)
    else:
        first, last = _record_lines(lines, table.quote.encode())
        blank = lines.blank()[first] & (first == last) & (len(table.columns) > 1)
        skipped = int(blank.sum())
        set_lines_aside(draft, lines, body, first[~blank], last[~blank], "schema_drift", problem)
    return draft.seal(
        columns=[],
        skipped=skipped,
        size_bytes=chunk.end,
        start_bytes=chunk.offset,
        position_bytes=chunk.end,
        lines=body.first_line - 1 + body.lines,
    )


def _record_lines(lines: Lines, quote: bytes) -> tuple[Places, Places]:
    """The first and last line of every record, as its quotes tell; line by line where a quote is a stray one."""
    ends = np.flatnonzero(np.cumsum(lines.quotes(quote)) % 2 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    is_whole = ends - starts < LONGEST_RECORD_LINES
    # +1 where a record begins to go on, -1 where it ends: between them no line is the last of a record.
    edges = np.zeros(len(lines) + 1, np.int64)
    np.add.at(edges, starts[is_whole], 1)
    np.add.at(edges, ends[is_whole], -1)
    last = np.flatnonzero(np.cumsum(edges)[:-1] == 0)
    first = np.concatenate([[0], last[:-1] + 1])[: len(last)]
    return first.astype(np.int64), last.astype(np.int64)
