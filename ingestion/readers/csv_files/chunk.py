"""One chunk of a CSV file: its records are framed, parsed, and every byte is accounted for.

The frame says by the bytes alone where every record is and which are ragged or doubtful; the parser must agree. Only
what is doubtful goes through the salvage, which sets aside line by line what is broken: one bad line costs its
neighbours nothing. Where frame and parser do not agree, that is the whole chunk.
"""

import numpy as np
import pyarrow as pa

from ingestion.parcels import Parcel, ParcelDraft
from ingestion.readers.csv_files.frame import adds_up, frame_records, regular_quoting
from ingestion.readers.csv_files.parse import Table, parse_records
from ingestion.readers.csv_files.salvage import UNCLOSED, salvage
from ingestion.readers.framing import Chunk, Lines, set_lines_aside, set_overlong_aside, undecodable_lines


def read_chunk(draft: ParcelDraft, chunk: Chunk, table: Table, header_bytes: int) -> Parcel:
    """The parcel of one chunk, whose first `header_bytes` bytes are the header line and no record."""
    body = chunk.after(header_bytes)
    skipped = 0
    if body.is_overlong:
        set_overlong_aside(draft, body)
    elif body.data:
        skipped = _read_records(draft, body, table)
    return draft.seal(
        columns=table.columns,
        skipped=skipped,
        size_bytes=chunk.end,
        start_bytes=chunk.offset,
        position_bytes=chunk.end,
        lines=body.first_line - 1 + body.lines,
    )


def _read_records(draft: ParcelDraft, body: Chunk, table: Table) -> int:
    """Put the rows into `draft` and set aside there what is none; how many blank lines were skipped."""
    # A parser may take a mixture of line ends for an error.
    data = body.data.replace(b"\r\n", b"\n") if b"\r" in body.data else body.data
    # One clean record a line is the usual case. The parser checks the encoding as well.
    quoting = regular_quoting(data, table) if b"\r" not in data and b"\0" not in data else None
    if quoting is not None:
        rows = _parsed(data, table, body.lines)
        if rows is not None and adds_up(data, rows, table, quoting):
            draft.add_rows(rows, body.first_line)
            return 0
    lines = Lines(data)
    original = lines if data is body.data else Lines(body.data)
    unreadable = undecodable_lines(lines)
    frame = frame_records(lines, table, unreadable)
    rows = None
    if frame is not None:
        rows = _parsed(lines.kept(frame.lines_of(frame.is_good)), table, int(frame.is_good.sum()))
    if frame is None or rows is None:
        return salvage(draft, body, original, table, np.ones(len(lines), bool), unreadable)
    if rows.num_rows:
        draft.add_rows(rows, body.first_line + frame.first_lines[frame.is_good])
    ragged = f"the line does not have the {len(table.columns)} columns of the header"
    for wrong, reason, message in (
        (frame.is_ragged, "ragged_line", ragged),
        (frame.is_unclosed, "broken_quote", UNCLOSED),
    ):
        first, last = frame.first_lines[wrong], frame.last_lines[wrong]
        set_lines_aside(draft, original, body, first, last, reason, message)
    skipped = int(frame.is_blank.sum())
    if frame.is_doubtful.any():
        skipped += salvage(draft, body, original, table, frame.lines_of(frame.is_doubtful), unreadable)
    return skipped


def _parsed(data: bytes, table: Table, count: int) -> pa.Table | None:
    """The records of `data`, if the parser finds just `count` of them."""
    if not count:
        return table.empty()
    try:
        rows = parse_records(data, table)
    except ValueError:  # ArrowInvalid is one; a delimiter of several bytes is another
        return None
    return rows if rows.num_rows == count else None
