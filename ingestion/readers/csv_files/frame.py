"""The records of a CSV chunk by its bytes alone: where each begins and ends and how many delimiters it holds.

Quoting is regular (RFC 4180, section 2) where every quote opens a field, closes one, or is one of a pair inside. What a
record with any other quote is, is left to the salvage.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.readers.csv_files.parse import Table
from ingestion.readers.framing import NEWLINE, RETURN, Lines, last_line_end

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]


# A record of more lines than this that has the wrong number of columns is taken for a stray quote, not for a record.
LONGEST_RECORD_LINES = 20
TAIL_BYTES = 256 * 1024


@dataclass(frozen=True)
class Frame:
    """The records of a chunk, in order: first and last line of each, counted from 0, and what is wrong with it.

    One that is unclosed opens a quoted field that nothing closes. One that is doubtful has a quote where none belongs,
    or a line that cannot be read: only a parser can tell what it is.
    """

    first_lines: Places
    last_lines: Places
    is_ragged: Mask
    is_blank: Mask
    is_unclosed: Mask
    is_doubtful: Mask

    @property
    def is_good(self) -> Mask:
        """Which records have as many fields as the table."""
        return ~(self.is_ragged | self.is_blank | self.is_unclosed | self.is_doubtful)

    def lines_of(self, records: Mask) -> Mask:
        """Which lines belong to these records."""
        return np.repeat(records, self.last_lines - self.first_lines + 1)


@dataclass(frozen=True)
class Quoting:
    """How many quotes a chunk with regular quoting holds, and how many pairs of them stand for one in a value."""

    quotes: int = 0
    pairs: int = 0


def regular_quoting(data: bytes, table: Table) -> Quoting | None:
    """The quoting of `data`, if every quote is where quotes belong."""
    if not table.quote or table.quote.encode() not in data:
        return Quoting()
    delimiter = table.delimiter.encode()
    codes = np.frombuffer(data, np.uint8)
    if len(delimiter) > 1 or (table.escape != table.quote and (codes == ord(table.escape)).any()):
        return None
    quotes = np.flatnonzero(codes == ord(table.quote))
    if len(quotes) % 2:
        return None
    opens, closes = quotes[0::2], quotes[1::2]
    is_edge = np.zeros(256, bool)
    is_edge[[NEWLINE, delimiter[0]]] = True
    is_pair = opens[1:] == closes[:-1] + 1
    begins = is_edge[codes[opens[1:] - 1]] | is_pair
    finishes = is_edge[codes[closes[:-1] + 1]] | is_pair
    first = opens[0] == 0 or is_edge[codes[opens[0] - 1]]
    last = closes[-1] + 1 == len(codes) or is_edge[codes[closes[-1] + 1]]
    is_regular = first and last and begins.all() and finishes.all()
    return Quoting(len(quotes), int(is_pair.sum())) if is_regular else None


def adds_up(data: bytes, rows: pa.Table, table: Table, quoting: Quoting) -> bool:
    """Whether fields, delimiters, quotes and line ends of `rows`, one a line, make up all the bytes of `data`.

    A parser that swallowed, shifted or invented something is found here.
    """
    line_ends = rows.num_rows - (not data.endswith(b"\n"))
    delimiters = rows.num_rows * (len(table.columns) - 1) * len(table.delimiter.encode())
    wanted = len(data) - line_ends - delimiters - quoting.quotes + quoting.pairs
    for column in rows.columns:
        for chunk in column.chunks:
            places = np.frombuffer(chunk.buffers()[1], np.int32)
            wanted -= int(places[chunk.offset + len(chunk)]) - int(places[chunk.offset])
    return bool(wanted == 0)


def frame_records(lines: Lines, table: Table, unreadable: Collection[int]) -> Frame | None:
    """The frame of lines that end in a newline alone; None where nothing can be told by the bytes.

    A record that has a line of `unreadable`, a carriage return or an escape other than the quote is doubtful.
    """
    if len(table.delimiter.encode()) > 1:
        return None
    quotes = _Quotes.of(lines, table)
    is_doubtful = quotes.is_misplaced
    is_doubtful[list(unreadable)] = True
    for code in {RETURN, ord(table.escape) if table.quote and table.escape != table.quote else RETURN}:
        is_doubtful[np.searchsorted(lines.ends, np.flatnonzero(lines.codes == code))] = True

    last_lines = np.flatnonzero(~quotes.goes_on)
    first_lines = np.concatenate([[0], last_lines[:-1] + 1])
    is_doubtful = np.logical_or.reduceat(is_doubtful, first_lines)
    is_unclosed = np.logical_or.reduceat(quotes.is_unclosed, first_lines) & ~is_doubtful
    starts, ends = lines.starts[first_lines], lines.ends[last_lines]
    is_blank = (starts == ends) & (len(table.columns) > 1) & ~is_doubtful
    # Of the quotes that are left half open and half close, in turns.
    paired = quotes.places[~np.repeat(is_doubtful | is_unclosed, last_lines - first_lines + 1)[quotes.lines]]
    delimiters = np.flatnonzero(lines.codes == ord(table.delimiter))
    delimiters = delimiters[np.searchsorted(paired, delimiters) % 2 == 0]
    counts = np.diff(np.searchsorted(delimiters, ends), prepend=0)
    is_ragged = (counts != len(table.columns) - 1) & ~(is_blank | is_unclosed | is_doubtful)
    return Frame(first_lines, last_lines, is_ragged, is_blank, is_unclosed, is_doubtful)


def record_end(held: bytearray, length: int, *, table: Table) -> int:
    """Where the first `length` bytes are cut: after the last line end that is in no quoted field, 0 without a line end.

    Where a field is open since the first byte, the last line end serves as well as any.
    """
    last = last_line_end(held, length)
    quote = table.quote.encode()
    if not quote or len(table.delimiter.encode()) > 1 or held.find(quote, 0, last) < 0:
        return last
    codes = np.frombuffer(held, np.uint8, last)
    is_even = np.count_nonzero(codes == quote[0]) % 2 == 0
    del codes  # what is looked into cannot grow
    # The last line with an odd number of quotes tells; it is nearly always close.
    for size in (TAIL_BYTES, last):
        start = last_line_end(held, max(last - size, 0))
        lines = Lines(bytes(held[start:last]))
        quotes = _Quotes.of(lines, table)
        if quotes.open_line is not None:
            return start + int(lines.starts[quotes.open_line]) or last
        if is_even or quotes.has_odd_line:
            break
    return last


@dataclass(frozen=True)
class _Quotes:
    """The quotes of a chunk, and what they make of its lines.

    Each line is judged on its own, so that a stray quote spoils no line but its own: from one that opens a field to the
    next with an odd number of quotes, which must close it, every quote has to be where it belongs inside.
    `goes_on` marks the lines that end inside a quoted field, `is_unclosed` those that open one which nothing closes,
    `is_misplaced` those with a quote where none belongs. At `open_line` a field opens that may be closed further on.
    """

    places: Places
    lines: Places
    goes_on: Mask
    is_unclosed: Mask
    is_misplaced: Mask
    open_line: int | None
    has_odd_line: bool

    @classmethod
    def of(cls, lines: Lines, table: Table) -> "_Quotes":
        count = len(lines)
        places = _unescaped_quotes(lines.codes, table)
        of_line = np.searchsorted(lines.ends, places)
        in_line = np.bincount(of_line, minlength=count)
        padded = np.full(len(lines.codes) + 2, NEWLINE, np.uint8)
        padded[1:-1] = lines.codes
        is_edge = np.isin(np.arange(256), [NEWLINE, RETURN, ord(table.delimiter)])
        is_pair = np.diff(places) == 1
        may_open = is_edge[padded[places]] | np.append(False, is_pair)[: len(places)]
        may_close = is_edge[padded[places + 2]] | np.append(is_pair, False)[: len(places)]
        is_first = (np.arange(len(places)) - (np.cumsum(in_line) - in_line)[of_line]) % 2 == 0
        # What is amiss in a line that begins outside of a field, and in one that begins inside.
        amiss = np.bincount(of_line, ~np.where(is_first, may_open, may_close), count) > 0
        amiss_inside = np.bincount(of_line, ~np.where(is_first, may_close, may_open), count) > 0
        is_odd = in_line % 2 == 1
        openers = np.flatnonzero(is_odd & ~amiss)
        turns = np.append(np.flatnonzero(is_odd | amiss_inside), count)
        stops = turns[np.searchsorted(turns, openers, side="right")]
        is_closed = np.append(is_odd & ~amiss_inside, False)[stops]

        goes_on, is_unclosed = np.zeros(count, bool), np.zeros(count, bool)
        last, open_line = -1, None
        for first, stop, closed in zip(openers.tolist(), stops.tolist(), is_closed.tolist(), strict=True):
            if first <= last:  # its quote closed the record before
                continue
            if closed and (stop - first < LONGEST_RECORD_LINES or _has_all_fields(lines, first, stop, places, table)):
                goes_on[first:stop] = True
                last = stop
            else:
                is_unclosed[first] = True
                open_line = first if stop == count else None
        is_inside = goes_on | np.append(False, goes_on[:-1])
        return cls(places, of_line, goes_on, is_unclosed, amiss & ~is_inside, open_line, bool(is_odd.any()))


def _unescaped_quotes(codes: NDArray[np.uint8], table: Table) -> Places:
    """The places of all quotes but those after an escape that is another character and not escaped itself."""
    if not table.quote:
        return np.empty(0, np.int64)
    quotes = np.flatnonzero(codes == ord(table.quote))
    if table.escape == table.quote:
        return quotes
    escapes = np.flatnonzero(codes == ord(table.escape))
    begins_run = np.diff(escapes, prepend=-2) > 1
    lengths = escapes - escapes[begins_run][np.cumsum(begins_run) - 1] + 1
    return quotes[~np.isin(quotes - 1, escapes[lengths % 2 == 1])]


def _has_all_fields(lines: Lines, first: int, last: int, quotes: Places, table: Table) -> bool:
    """Whether the record from line `first` to line `last` has as many fields as the table."""
    start, end = lines.starts[first], lines.ends[last]
    delimiters = start + np.flatnonzero(lines.codes[start:end] == ord(table.delimiter))
    quotes = quotes[slice(*np.searchsorted(quotes, (start, end)))]
    return int(np.count_nonzero(np.searchsorted(quotes, delimiters) % 2 == 0)) == len(table.columns) - 1
