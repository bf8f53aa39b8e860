"""CSV files: DuckDB parses, and every physical line is accounted for.

DuckDB is asked for one strict pass over a chunk. Where it rejects something, the broken lines are set aside and the
rest is parsed again, until it rejects nothing. Then the lines at which a record can start are counted from the bytes
and must be as many as the rows: a reader that swallowed or invented a line is found here.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foundation.settings import CsvSource
from foundation.warehouse import quote_identifier, quote_literal
from ingestion.names import raw_columns
from ingestion.parcels import Batch, DeadLetter, Parcel, ParcelDraft
from ingestion.readers.framing import (
    NEWLINE,
    Chunk,
    KnownPrefix,
    Lines,
    is_plain,
    letter_for_lines,
    open_bytes,
    read_chunks,
    undecodable_lines,
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A record of more lines than this that has the wrong number of columns is taken for a stray quote, not for a record.
LONGEST_RECORD_LINES = 20
# Passes in which DuckDB names the broken lines; after them every line with an odd number of quotes counts as broken.
PASSES = 12

Notice = Callable[[str], None]


@dataclass(frozen=True)
class _Table:
    """How this file's records are parsed: its raw columns and its dialect."""

    columns: Sequence[str]
    delimiter: str
    quote: str

    def scan(self, path: Path) -> str:
        types = ", ".join(f"{quote_literal(column)}: 'VARCHAR'" for column in self.columns)
        return (
            f"read_csv({quote_literal(str(path))}, auto_detect = false, header = false, columns = {{{types}}}, "
            f"delim = {quote_literal(self.delimiter)}, quote = {quote_literal(self.quote)}, "
            f"escape = {quote_literal(self.quote)}, new_line = '\\n', strict_mode = true, store_rejects = true, "
            "nullstr = '', allow_quoted_nulls = false)"
        )


def read_csv_file(
    path: Path, location: str, name: str, source: CsvSource, known: KnownPrefix | None, batch: Batch, notice: Notice
) -> Iterator[Parcel]:
    """The parcels of what is new in a CSV file; none when nothing is. Raises SourceError when it cannot be read."""
    quote = source.quote.encode()
    with open_bytes(path) as stream:
        header, header_end = _read_header(stream, source)
        stream.seek(0)
        columns = raw_columns(header)
        table: _Table | None = None
        for chunk in read_chunks(stream, known, quote=quote):
            draft = ParcelDraft(batch, name, "csv", location, chunk.prefix_hash)
            if chunk.offset == 0:
                problem = _header_problem(header, columns, source)
                if problem:
                    yield _whole_file_letter(draft, chunk, problem)
                    return
                _report_header(columns, header, source, location, notice)
            table = table or _Table(columns, source.delimiter, source.quote)
            yield _read_chunk(draft, chunk, table, header_end if chunk.offset == 0 else 0)


def _read_header(stream: io.BufferedIOBase, source: CsvSource) -> tuple[list[str], int]:
    """The headings, and how many bytes they take with their line end."""
    head = b""
    while True:
        line = stream.readline(1_000_000)
        head += line
        if not line or head.count(source.quote.encode()) % 2 == 0 or len(head) > 10_000_000:
            break
    text = head.removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=source.delimiter, quotechar=source.quote))
    return (rows[0] if rows else []), len(head)


def _header_problem(header: Sequence[str], columns: Sequence[str], source: CsvSource) -> str | None:
    if not header:
        return None
    if header[0].lstrip().startswith(("<!", "<html", "<HTML", "<?xml")):
        return "the file is a web page, not CSV"
    if source.columns and not set(source.columns) & set(columns):
        return f"the header has none of the columns {', '.join(source.columns)}; it is {', '.join(header)[:200]}"
    return None


def _report_header(
    columns: Sequence[str], header: Sequence[str], source: CsvSource, location: str, notice: Notice
) -> None:
    if missing := [column for column in source.columns if column not in columns]:
        notice(f"{location}: columns missing, left empty: {', '.join(missing)}")
    if source.columns and (extra := [column for column in columns if column not in source.columns]):
        notice(f"{location}: columns that penstock.yml does not name, kept in raw: {', '.join(extra)}")
    repeated = [column for column, heading in zip(columns, header, strict=True) if column != raw_columns([heading])[0]]
    if repeated:
        notice(f"{location}: headings that are there twice or empty, kept as {', '.join(repeated)}")


def _whole_file_letter(draft: ParcelDraft, chunk: Chunk, problem: str) -> Parcel:
    draft.letters.append(
        DeadLetter("unreadable_file", problem, chunk.data, line=1, byte_offset=0, byte_length=len(chunk.data))
    )
    lines = chunk.data.count(b"\n") + (not chunk.data.endswith(b"\n"))
    return draft.seal(columns=[], loaded=0, size_bytes=chunk.end, position_bytes=chunk.end, lines=lines)


def _read_chunk(draft: ParcelDraft, chunk: Chunk, table: _Table, header_bytes: int) -> Parcel:
    body = Chunk(
        chunk.data[header_bytes:],
        chunk.offset + header_bytes,
        chunk.first_line + chunk.data.count(b"\n", 0, header_bytes),
        chunk.prefix_hash,
        chunk.is_last,
    )
    lines_before = body.first_line - 1
    temporary = draft.batch.folder / f"{draft.source}.{draft.load_id}.csv"
    with duckdb.connect() as connection:
        # DuckDB's progress bar would write over ours.
        connection.execute("set enable_progress_bar = false")
        parse = _Parse(connection, table, temporary)
        try:
            if (rows := _parse_whole(parse, body)) is not None:
                skipped, numbers = 0, None
            else:
                numbers, skipped = _parse_lines(parse, body, draft)
                rows = len(numbers)
            if rows:
                _write_rows(connection, draft, table, body.first_line, numbers)
        finally:
            temporary.unlink(missing_ok=True)
    lines = lines_before + body.data.count(b"\n") + bool(body.data and not body.data.endswith(b"\n"))
    return draft.seal(
        columns=table.columns,
        loaded=rows,
        skipped=skipped,
        size_bytes=chunk.end,
        position_bytes=chunk.end,
        lines=lines,
    )


@dataclass(frozen=True)
class _Reject:
    """A record that DuckDB would not parse. `text` is cut at 10,000 characters."""

    position: int
    kind: str
    message: str
    text: str

    @property
    def lines(self) -> int:
        """How many lines DuckDB took for this record."""
        return self.text.strip("\n").count("\n") + 1


@dataclass
class _Parse:
    """One strict pass of DuckDB over some bytes into the temporary table `parsed`."""

    connection: duckdb.DuckDBPyConnection
    table: _Table
    temporary: Path

    def __call__(self, data: bytes) -> tuple[int, list[_Reject]]:
        """How many rows there are, and what was rejected."""
        self.temporary.write_bytes(data)
        for rejects in ("reject_errors", "reject_scans"):
            self.connection.execute(f"drop table if exists {rejects}")
        counted = self.connection.execute(
            f"create or replace temp table parsed as select * from {self.table.scan(self.temporary)}"
        ).fetchone()
        found = self.connection.execute(
            "select line_byte_position, error_type::varchar, error_message, csv_line from reject_errors order by 1"
        ).fetchall()
        return (counted[0] if counted else 0), [_Reject(*reject) for reject in found]

    def total_bytes(self) -> int:
        """How many bytes the fields of all rows hold, less the quote characters in them."""
        sums = ", ".join(f"sum({_LENGTH_WITHOUT_QUOTES.format(name)})" for name in self._names())
        row = self.connection.execute(f"select {sums} from parsed", {"quote": self.table.quote}).fetchone()
        return sum(int(length or 0) for length in row or ())

    def measures(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each row: how many lines that are not blank it took, and its bytes as in `total_bytes`."""
        lines = " + ".join(_LINES_IN_FIELD.format(name) for name in self._names())
        length = " + ".join(f"coalesce({_LENGTH_WITHOUT_QUOTES.format(name)}, 0)" for name in self._names())
        found = self.connection.execute(
            f"select 1 + {lines} as lines, {length} as length from parsed order by rowid", {"quote": self.table.quote}
        ).fetchnumpy()
        return np.asarray(found["lines"], np.int64), np.asarray(found["length"], np.int64)

    def _names(self) -> list[str]:
        return [quote_identifier(column) for column in self.table.columns]


_LENGTH_WITHOUT_QUOTES = "strlen(replace({0}, $quote, ''))"
# Line ends in a field, less the blank lines between them: only the first and last part share a line with other text.
_LINES_IN_FIELD = (
    "case when contains({0}, chr(10)) then length({0}) - length(replace({0}, chr(10), ''))"
    " - len(list_filter(string_split({0}, chr(10))[2:-2], lambda part: part = '')) else 0 end"
)


def _parse_whole(parse: _Parse, body: Chunk) -> int | None:
    """The rows of a chunk that holds one clean record a line, the usual case; None where it does not."""
    if not body.data:
        return 0
    if b"\r" in body.data or not is_plain(body.data):
        return None
    try:
        rows, rejects = parse(body.data)
    except duckdb.Error:
        return None
    lines = body.data.count(b"\n") + (not body.data.endswith(b"\n"))
    return rows if not rejects and rows == lines and _adds_up(parse, body.data, rows) else None


def _adds_up(parse: _Parse, data: bytes, rows: int) -> bool:
    """Whether fields, delimiters and quotes make up all the bytes of one-line records.

    DuckDB takes any number of empty fields beyond the last column without a word, and a value that held a delimiter
    has then shifted the others (seen with 1.5.5).
    """
    delimiter, quote = parse.table.delimiter.encode(), parse.table.quote.encode()
    wanted_delimiters = rows * (len(parse.table.columns) - 1)
    if quote not in data:
        return data.count(delimiter) == wanted_delimiters
    line_ends = data.count(b"\n")
    # Both sides leave every quote character out, so that quoting needs no thought.
    return len(data) - data.count(quote) == parse.total_bytes() + wanted_delimiters * len(delimiter) + line_ends


def _parse_lines(parse: _Parse, body: Chunk, draft: ParcelDraft) -> tuple[NDArray[np.int64], int]:
    """Set the broken lines aside until the rest parses; the line number of every row, and the blank lines skipped."""
    lines = Lines(body.data)
    # In a table of one column an empty line is a record whose value is empty.
    blank = lines.blank() if len(parse.table.columns) > 1 else np.zeros(len(lines), bool)
    keep = np.ones(len(lines), bool)
    for index, problem in undecodable_lines(lines).items():
        _drop(draft, lines, body, keep, index, index, "not_utf8", problem)
    width = (len(parse.table.columns) - 1) * len(parse.table.delimiter.encode())
    for attempt in range(2 * PASSES):
        if attempt == PASSES:
            odd = lines.quotes(parse.table.quote.encode()) % 2 == 1
            for index in np.flatnonzero(keep & odd).tolist():
                _drop(draft, lines, body, keep, index, index, "broken_quote", _ODD)
        frame = _Frame(lines, keep, blank, parse.table.quote.encode())
        _, rejects = parse(frame.data)
        for reject in rejects:
            first, last = frame.lines_of(reject)
            if keep[first]:  # one line can be rejected for several reasons
                _drop(draft, lines, body, keep, first, last, _REASONS.get(reject.kind, "unparsable"), reject.message)
        if rejects:
            continue
        filled = np.flatnonzero(keep & ~blank)
        taken, length = parse.measures()
        if taken.sum() != len(filled):
            break
        starts, ends = filled[np.cumsum(taken) - taken], filled[np.cumsum(taken) - 1]
        wrong = np.flatnonzero(frame.length(starts, ends) != length + width)
        for first, last in zip(starts[wrong].tolist(), ends[wrong].tolist(), strict=True):
            _drop(
                draft,
                lines,
                body,
                keep,
                first,
                last,
                "ragged_line",
                "the line holds more than the columns of the header",
            )
        if wrong.size:
            continue
        blanks_before = np.cumsum(blank & keep)
        inside = int((blanks_before[ends] - blanks_before[starts]).sum())
        return body.first_line + starts, int((blank & keep).sum()) - inside
    # Never seen; should DuckDB ever lose or invent a line, no row of this chunk goes on.
    for index in np.flatnonzero(keep & ~blank).tolist():
        _drop(draft, lines, body, keep, index, index, "unaccountable", "the parser could not account for every line")
    return np.empty(0, np.int64), int((keep & blank).sum())


_ODD = "the line opens a quoted field and nothing closes it"


def _drop(
    draft: ParcelDraft,
    lines: Lines,
    body: Chunk,
    keep: NDArray[np.bool_],
    first: int,
    last: int,
    reason: str,
    message: str,
) -> None:
    keep[first : last + 1] = False
    draft.letters.append(letter_for_lines(lines, body, first, last, reason, message))


class _Frame:
    """The kept lines of a chunk as DuckDB gets them, and the way back from a place in them to the chunk's lines."""

    def __init__(self, lines: Lines, keep: NDArray[np.bool_], blank: NDArray[np.bool_], quote: bytes) -> None:
        self.kept: NDArray[np.int64] = np.flatnonzero(keep)
        self.blank = blank
        data = lines.kept(keep)
        # One kind of line end, because a strict parser takes a mixture for an error.
        self.data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == NEWLINE)
        self.starts: NDArray[np.int64] = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        self.ends: NDArray[np.int64] = ends
        self._quotes = np.flatnonzero(np.frombuffer(self.data, np.uint8) == quote[0])

    def length(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of the records from line `first` to line `last`, less their quote characters."""
        start = self.starts[np.searchsorted(self.kept, first)]
        end = self.ends[np.searchsorted(self.kept, last)]
        quotes = np.searchsorted(self._quotes, end) - np.searchsorted(self._quotes, start)
        return np.asarray(end - start - quotes, np.int64)

    def lines_of(self, reject: _Reject) -> tuple[int, int]:
        """The first and last line to set aside for a reject.

        A record of the wrong width goes whole. Where quoting broke, only the line on which the record began goes:
        those after it may be good.
        """
        place = int(np.searchsorted(self.starts, reject.position, side="right")) - 1
        while place + 1 < len(self.kept) and self.blank[self.kept[place]]:
            place += 1  # DuckDB counts the blank lines before a record to it
        is_whole = reject.kind in _WIDTH and reject.lines <= LONGEST_RECORD_LINES
        last = min(place + reject.lines - 1, len(self.kept) - 1) if is_whole else place
        return int(self.kept[place]), int(self.kept[last])


_WIDTH = ("TOO MANY COLUMNS", "MISSING COLUMNS")
_REASONS = {
    "TOO MANY COLUMNS": "ragged_line",
    "MISSING COLUMNS": "ragged_line",
    "UNQUOTED VALUE": "broken_quote",
    "INVALID ENCODING": "not_utf8",
    "LINE SIZE OVER MAXIMUM": "line_too_long",
}


def _write_rows(
    connection: duckdb.DuckDBPyConnection,
    draft: ParcelDraft,
    table: _Table,
    first_line: int,
    numbers: NDArray[np.int64] | None,
) -> None:
    columns = ", ".join(quote_identifier(column) for column in table.columns)
    constants = draft.lineage()
    lineage = ", ".join(f"${name} as {quote_identifier(name)}" for name in constants)
    origin, line = "parsed", f"parsed.rowid + {int(first_line)}"
    if numbers is not None:
        connection.register("line_numbers", pa.table({"_number": pa.array(numbers)}))
        origin, line = "parsed positional join line_numbers", "_number"
    connection.execute(
        f"copy (select {columns}, {line} as _line, {lineage} from {origin}) "
        f"to {quote_literal(str(draft.rows_file))} (format parquet, compression snappy)",
        constants,
    )
