"""One chunk of a CSV file: DuckDB parses, and every byte is accounted for.

DuckDB is asked for one strict pass. Where it rejects something, the broken lines are set aside and the rest is parsed
again, until it rejects nothing. Then lines and bytes are counted against the rows: a parser that swallowed, shifted or
invented something is found here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foundation.warehouse import quote_identifier, quote_literal
from ingestion.parcels import Parcel, ParcelDraft
from ingestion.readers.framing import (
    NEWLINE,
    RETURN,
    Chunk,
    Lines,
    is_plain,
    letter_for_lines,
    undecodable_lines,
)

# A record of more lines than this that has the wrong number of columns is taken for a stray quote, not for a record.
LONGEST_RECORD_LINES = 20
# Passes in which DuckDB names the broken lines before stronger means are used.
PASSES = 12


@dataclass(frozen=True)
class Table:
    """How this file's records are parsed: its raw columns and its dialect."""

    columns: Sequence[str]
    delimiter: str
    quote: str
    escape: str

    def scan(self, path: Path) -> str:
        types = ", ".join(f"{quote_literal(column)}: 'VARCHAR'" for column in self.columns)
        return (
            f"read_csv({quote_literal(str(path))}, auto_detect = false, header = false, columns = {{{types}}}, "
            f"delim = {quote_literal(self.delimiter)}, quote = {quote_literal(self.quote)}, "
            f"escape = {quote_literal(self.escape)}, new_line = '\\n', strict_mode = true, store_rejects = true, "
            "nullstr = '', allow_quoted_nulls = false)"
        )


def read_chunk(draft: ParcelDraft, chunk: Chunk, table: Table, header_bytes: int) -> Parcel:
    """The parcel of one chunk, whose first `header_bytes` bytes are the header line and no record."""
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
                numbers, skipped = _Salvage(parse, body, draft).rows()
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
        start_bytes=chunk.offset,
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
    table: Table
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


class _Salvage:
    """Sets the broken lines of a chunk aside until the rest of it parses and adds up."""

    def __init__(self, parse: _Parse, body: Chunk, draft: ParcelDraft) -> None:
        self._parse, self._body, self._draft = parse, body, draft
        self._quote = parse.table.quote.encode()
        self._width = (len(parse.table.columns) - 1) * len(parse.table.delimiter.encode())
        self._lines = Lines(body.data)
        # In a table of one column an empty line is a record whose value is empty.
        self._blank = self._lines.blank() if len(parse.table.columns) > 1 else np.zeros(len(self._lines), bool)
        self._keep = np.ones(len(self._lines), bool)

    def rows(self) -> tuple[NDArray[np.int64], int]:
        """The line number of every row in `parsed`, and how many blank lines were skipped."""
        for index, problem in undecodable_lines(self._lines).items():
            self._set_aside(index, index, "not_utf8", problem)
        # Where DuckDB cannot say which line it stumbles over, each of these takes the likely ones out.
        for last_resort in (self._stray_returns, self._odd_quotes, self._everything):
            for _ in range(PASSES):
                found = self._pass()
                if found is _STUCK:
                    break
                if not isinstance(found, str):
                    return found
            for index in np.flatnonzero(self._keep & last_resort()).tolist():
                self._set_aside(index, index, *_LAST_RESORTS[last_resort.__name__])
        self._parse(b"")
        return np.empty(0, np.int64), int((self._keep & self._blank).sum())

    def _pass(self) -> tuple[NDArray[np.int64], int] | str:
        """One parse of the kept lines: the rows when all adds up, else whether to parse again."""
        frame = _Frame(self._lines, self._keep, self._blank, self._quote)
        try:
            rejects = self._parse(frame.data)[1]
        except duckdb.Error:
            return _STUCK
        for reject in rejects:
            first, last = frame.lines_of(reject)
            if self._keep[first]:  # one line can be rejected for several reasons
                self._set_aside(first, last, _REASONS.get(reject.kind, "unparsable"), reject.message)
        if rejects:
            return _AGAIN
        filled = np.flatnonzero(self._keep & ~self._blank)
        taken, length = self._parse.measures()
        if taken.sum() != len(filled):
            return _STUCK
        starts, ends = filled[np.cumsum(taken) - taken], filled[np.cumsum(taken) - 1]
        kept = np.cumsum(self._keep)
        torn = np.flatnonzero(kept[ends] - kept[starts] != ends - starts)
        for first, last in zip(starts[torn].tolist(), ends[torn].tolist(), strict=True):
            self._set_aside(first, last, "torn_record", "the record goes over a line that cannot be read")
        if torn.size:
            return _AGAIN
        wrong = np.flatnonzero(frame.length(starts, ends) != length + self._width)
        for first, last in zip(starts[wrong].tolist(), ends[wrong].tolist(), strict=True):
            self._set_aside(first, last, "ragged_line", "the line holds more than the columns of the header")
        if wrong.size:
            return _AGAIN
        blanks = np.cumsum(self._blank & self._keep)
        inside_fields = int((blanks[ends] - blanks[starts]).sum())
        return self._body.first_line + starts, int((self._blank & self._keep).sum()) - inside_fields

    def _set_aside(self, first: int, last: int, reason: str, message: str) -> None:
        """A dead letter for these lines, or one for each piece where a line between them is set aside already."""
        there = first + np.flatnonzero(self._keep[first : last + 1])
        for piece in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
            start, stop = int(piece[0]), int(piece[-1])
            self._draft.letters.append(letter_for_lines(self._lines, self._body, start, stop, reason, message))
        self._keep[first : last + 1] = False

    def _stray_returns(self) -> NDArray[np.bool_]:
        """Lines with a carriage return before their end."""
        codes = self._lines.codes
        returns = np.flatnonzero(codes == RETURN)
        ends_line = np.isin(returns + 1, self._lines.ends)
        marked = np.zeros(len(self._lines), bool)
        marked[np.searchsorted(self._lines.ends, returns[~ends_line])] = True
        return marked

    def _odd_quotes(self) -> NDArray[np.bool_]:
        """Lines that open a field, or end one, which another line ends or opens."""
        return np.asarray(self._lines.quotes(self._quote) % 2 == 1)

    def _everything(self) -> NDArray[np.bool_]:
        """Every line with text: should the parser lose or invent a line, no row of the chunk goes on."""
        return ~self._blank


_AGAIN, _STUCK = "parse again", "no line to blame"
_LAST_RESORTS = {
    "_stray_returns": ("stray_return", "a carriage return stands inside the line"),
    "_odd_quotes": ("broken_quote", "the line opens a quoted field and nothing closes it"),
    "_everything": ("unaccountable", "the parser could not account for every line"),
}


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
    table: Table,
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
