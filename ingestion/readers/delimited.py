"""CSV files: the header is checked by name, then chunk after chunk of whole lines is parsed."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

from foundation.sources import CsvSource
from ingestion.names import raw_columns
from ingestion.parcels import Batch, DeadLetter, Parcel, ParcelDraft
from ingestion.readers.ahead import in_order
from ingestion.readers.csv_chunk import read_chunk
from ingestion.readers.csv_parse import Table
from ingestion.readers.framing import Chunk, KnownPrefix, read_chunks
from ingestion.stores import StoredFile

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Notice = Callable[[str], None]


def read_csv_file(
    file: StoredFile, name: str, source: CsvSource, known: KnownPrefix | None, batch: Batch, notice: Notice
) -> Iterator[Parcel]:
    """The parcels of what is new in a CSV file; none when nothing is. Raises SourceError when it cannot be read."""
    quote = (source.quote or '"').encode()
    with file.open() as stream:
        header, header_end = _read_header(stream, source)
        stream.seek(0)
        columns = raw_columns(header)
        chunks = read_chunks(stream, known, quote=quote)
        first = next(chunks, None)
        if first is None:
            return
        if first.offset == 0:
            problem = _header_problem(header, columns, source)
            if problem:
                draft = ParcelDraft(batch, name, "csv", file.location, first.prefix_hash)
                yield _whole_file_letter(draft, first, problem)
                return
            _report_headings(columns, header, file.location, notice)
        quoting = source.quote or '"'
        table = Table(columns, source.delimiter or ",", quoting, source.escape or quoting)
        yield from in_order(
            partial(
                read_chunk,
                ParcelDraft(batch, name, "csv", file.location, chunk.prefix_hash),
                chunk,
                table,
                header_end if chunk.offset == 0 else 0,
            )
            for chunk in chain([first], chunks)
        )


def _read_header(stream: io.BufferedIOBase, source: CsvSource) -> tuple[list[str], int]:
    """The headings, and how many bytes they take with their line end."""
    head = b""
    while True:
        line = stream.readline(1_000_000)
        head += line
        if not line or head.count((source.quote or '"').encode()) % 2 == 0 or len(head) > 10_000_000:
            break
    text = head.removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
    rows = list(
        csv.reader(io.StringIO(text, newline=""), delimiter=source.delimiter or ",", quotechar=source.quote or '"')
    )
    return (rows[0] if rows else []), len(head)


def _header_problem(header: Sequence[str], columns: Sequence[str], source: CsvSource) -> str | None:
    if not header:
        return None
    if header[0].lstrip().startswith(("<!", "<html", "<HTML", "<?xml")):
        return "the file is a web page, not CSV"
    if source.columns and not set(source.columns) & set(columns):
        return f"the header has none of the columns {', '.join(source.columns)}; it is {', '.join(header)[:200]}"
    return None


def _report_headings(columns: Sequence[str], header: Sequence[str], location: str, notice: Notice) -> None:
    repeated = [column for column, heading in zip(columns, header, strict=True) if column != raw_columns([heading])[0]]
    if repeated:
        notice(f"{location}: headings that are there twice or empty, kept as {', '.join(repeated)}")


def _whole_file_letter(draft: ParcelDraft, chunk: Chunk, problem: str) -> Parcel:
    draft.letters.append(
        DeadLetter("unreadable_file", problem, chunk.data, line=1, byte_offset=0, byte_length=len(chunk.data))
    )
    lines = chunk.data.count(b"\n") + (not chunk.data.endswith(b"\n"))
    return draft.seal(columns=[], size_bytes=chunk.end, position_bytes=chunk.end, lines=lines)
