"""The salvage of doubtful lines of a CSV chunk: broken ones are set aside until the rest of them adds up.

DuckDB names the lines that it rejects; they go to the dead letters and the rest is parsed again, until nothing is
rejected. Then lines and bytes are counted against the rows: a parser that swallowed, shifted or invented something is
found here. DuckDB 1.5 takes any number of empty fields beyond the last column without a word, for one.
"""

from collections.abc import Mapping

import duckdb
import numpy as np
from numpy.typing import NDArray

from ingestion.parcels import ParcelDraft
from ingestion.readers.csv_files.frame import LONGEST_RECORD_LINES
from ingestion.readers.csv_files.parse import Reject, StrictParse, Table
from ingestion.readers.framing import NEWLINE, RETURN, Chunk, Lines, set_lines_aside

UNCLOSED = "the line opens a quoted field and nothing closes it"
# Passes in which DuckDB names the broken lines before stronger means are used.
PASSES = 12


def salvage(
    draft: ParcelDraft,
    body: Chunk,
    lines: Lines,
    table: Table,
    doubtful: NDArray[np.bool_],
    unreadable: Mapping[int, str],
) -> int:
    """Put the rows of the doubtful `lines` of `body` into `draft`; how many blank ones were skipped.

    The rest of them is set aside there. `unreadable` tells what is wrong with those lines that no parser can read.
    """
    temporary = draft.batch.folder / f"{draft.source}.{draft.load_id}.csv"
    # One thread, because two chunks are read side by side and rows keep their order.
    with duckdb.connect(config={"threads": 1}) as connection:
        # DuckDB's progress bar would write over ours.
        connection.execute("set enable_progress_bar = false")
        parse = StrictParse(connection, table, temporary)
        work = _Salvage(parse, lines, body.first_line, doubtful)
        try:
            numbers, skipped = work.rows(unreadable)
            if len(numbers):
                draft.add_rows(parse.rows(), numbers)
        finally:
            temporary.unlink(missing_ok=True)
    for (reason, message), pieces in work.aside.items():
        first, last = np.array(sorted(pieces)).T
        set_lines_aside(draft, lines, body, first, last, reason, message)
    return skipped


class _Salvage:
    """Sets broken lines aside until the rest of the doubtful ones parses and adds up."""

    def __init__(self, parse: StrictParse, lines: Lines, first_line: int, doubtful: NDArray[np.bool_]) -> None:
        self._parse, self._lines, self._first_line = parse, lines, first_line
        self._quote, self._marks = parse.table.quote.encode(), parse.table.marks.encode()
        self._width = (len(parse.table.columns) - 1) * len(parse.table.delimiter.encode())
        # In a table of one column an empty line is a record whose value is empty.
        self._blank = self._lines.blank() if len(parse.table.columns) > 1 else np.zeros(len(self._lines), bool)
        self._keep = doubtful.copy()
        self._between = np.cumsum(~doubtful)
        self.aside: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def rows(self, unreadable: Mapping[int, str]) -> tuple[NDArray[np.int64], int]:
        """The line number of every row in `parsed`, and how many blank lines were skipped."""
        for index, problem in unreadable.items():
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
        self._parse.into_table(b"")
        return np.empty(0, np.int64), int((self._keep & self._blank).sum())

    def _pass(self) -> tuple[NDArray[np.int64], int] | str:
        """One parse of the kept lines: the rows when all adds up, else whether to parse again."""
        frame = _Kept(self._lines, self._keep, self._blank, self._marks)
        try:
            rejects = self._parse.into_table(frame.data)
        except (duckdb.OutOfMemoryException, duckdb.IOException):
            raise  # the machine's fault: the records may be good
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
            if self._between[first] == self._between[last]:
                self._set_aside(first, last, "torn_record", "the record goes over a line that cannot be read")
            else:  # it took lines that are no neighbours for one record
                self._set_aside(first, first, "broken_quote", UNCLOSED)
        if torn.size:
            return _AGAIN
        wrong = np.flatnonzero(frame.length(starts, ends) != length + self._width)
        for first, last in zip(starts[wrong].tolist(), ends[wrong].tolist(), strict=True):
            self._set_aside(first, last, "ragged_line", "the line holds more than the columns of the header")
        if wrong.size:
            return _AGAIN
        blanks = np.cumsum(self._blank & self._keep)
        inside_fields = int((blanks[ends] - blanks[starts]).sum())
        return self._first_line + starts, int((self._blank & self._keep).sum()) - inside_fields

    def _set_aside(self, first: int, last: int, reason: str, message: str) -> None:
        """A dead letter for these lines, or one for each piece where a line between them is set aside already."""
        there = first + np.flatnonzero(self._keep[first : last + 1])
        for piece in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
            self.aside.setdefault((reason, message), []).append((int(piece[0]), int(piece[-1])))
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
    "_odd_quotes": ("broken_quote", UNCLOSED),
    "_everything": ("unaccountable", "the parser could not account for every line"),
}


class _Kept:
    """The kept lines of a chunk as DuckDB gets them, and the way back from a place in them to the chunk's lines."""

    def __init__(self, lines: Lines, keep: NDArray[np.bool_], blank: NDArray[np.bool_], marks: bytes) -> None:
        self.kept: NDArray[np.int64] = np.flatnonzero(keep)
        self.blank = blank
        data = lines.kept(keep)
        # One kind of line end, because a strict parser takes a mixture for an error.
        self.data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == NEWLINE)
        self.starts: NDArray[np.int64] = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        self.ends: NDArray[np.int64] = ends
        self._marks = np.flatnonzero(np.isin(np.frombuffer(self.data, np.uint8), list(marks)))

    def length(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of the records from line `first` to line `last`, less their marks."""
        start = self.starts[np.searchsorted(self.kept, first)]
        end = self.ends[np.searchsorted(self.kept, last)]
        marks = np.searchsorted(self._marks, end) - np.searchsorted(self._marks, start)
        return np.asarray(end - start - marks, np.int64)

    def lines_of(self, reject: Reject) -> tuple[int, int]:
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
