"""The records of a CSV chunk by its bytes alone: where each begins and ends and how many delimiters it holds.

Only chunks whose quoting is regular (RFC 4180, section 2) are framed: every quote opens a field, closes one, or is one
of a pair inside. All others are left to the parser and the salvage after it.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.readers.csv_files.parse import Table
from ingestion.readers.framing import NEWLINE

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Frame:
    """The records of a chunk, in order: first and last line of each, counted from 0, and what is wrong with it."""

    first_lines: Places
    last_lines: Places
    is_ragged: NDArray[np.bool_]
    is_blank: NDArray[np.bool_]

    @property
    def is_good(self) -> NDArray[np.bool_]:
        """Which records have as many fields as the table."""
        return ~(self.is_ragged | self.is_blank)

    def good_lines(self) -> NDArray[np.bool_]:
        """Which lines belong to good records."""
        return np.repeat(self.is_good, self.last_lines - self.first_lines + 1)


def is_regular(data: bytes, table: Table) -> bool:
    """Whether every quote in `data`, if there are any, is where quotes belong."""
    if not table.quote or table.quote.encode() not in data:
        return True
    return _regular_quotes(np.frombuffer(data, np.uint8), table) is not None


def adds_up(data: bytes, rows: pa.Table, table: Table) -> bool:
    """Whether fields, delimiters, quotes and line ends of `rows`, one a line, make up all the bytes of `data`.

    A parser that swallowed, shifted or invented something is found here.
    """
    codes = np.frombuffer(data, np.uint8)
    fields = rows.num_rows * (len(table.columns) - 1) * len(table.delimiter.encode())
    wanted = len(data) - np.count_nonzero(codes == NEWLINE) - fields
    is_quoted = bool(table.quote) and table.quote.encode() in data
    if is_quoted:  # both sides leave every quote out, so that quoting needs no thought
        wanted -= np.count_nonzero(codes == ord(table.quote))
    for column in rows.columns:
        for chunk in column.chunks:
            _, offsets, values = chunk.buffers()
            places = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
            wanted -= int(places[-1]) - int(places[0])
            if is_quoted and values is not None:
                text = np.frombuffer(values, np.uint8)[places[0] : places[-1]]
                wanted += np.count_nonzero(text == ord(table.quote))
    return bool(wanted == 0)


def frame_records(data: bytes, table: Table) -> Frame | None:
    """The frame of `data`; None where its quoting is not regular."""
    codes = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(codes == NEWLINE)
    if not data.endswith(b"\n"):
        newlines = np.append(newlines, len(data))
    if len(table.delimiter.encode()) > 1:
        return None
    delimiters = np.flatnonzero(codes == ord(table.delimiter))
    last_lines = np.arange(len(newlines))
    if table.quote and table.quote.encode() in data:
        quotes = _regular_quotes(codes, table)
        if quotes is None:
            return None
        last_lines = np.flatnonzero(np.searchsorted(quotes, newlines) % 2 == 0)
        delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
    ends = newlines[last_lines]
    first_lines = np.concatenate([[0], last_lines[:-1] + 1])[: len(last_lines)]
    starts = np.concatenate([[0], newlines + 1])[first_lines]
    counts = np.diff(np.searchsorted(delimiters, ends), prepend=0)
    is_blank = (starts == ends) & (len(table.columns) > 1)
    return Frame(first_lines, last_lines, (counts != len(table.columns) - 1) & ~is_blank, is_blank)


def _regular_quotes(codes: NDArray[np.uint8], table: Table) -> Places | None:
    """The places of all quotes, or None where one of them neither opens nor closes a field nor is one of a pair."""
    delimiter = table.delimiter.encode()
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
    first = len(opens) == 0 or opens[0] == 0 or is_edge[codes[opens[0] - 1]]
    last = len(closes) == 0 or closes[-1] + 1 == len(codes) or is_edge[codes[closes[-1] + 1]]
    return quotes if first and last and begins.all() and finishes.all() else None
