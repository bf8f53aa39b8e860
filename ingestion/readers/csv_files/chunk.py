"""One chunk of a CSV file: its records are framed, parsed, and every byte is accounted for.

The frame says by the bytes alone how many records there are and which are ragged, where the quoting is regular enough
to say so; the parser must agree. Where it does not, the salvage sets aside line by line what is broken.
"""

import pyarrow as pa

from ingestion.parcels import Parcel, ParcelDraft
from ingestion.readers.csv_files.frame import adds_up, frame_records, is_regular
from ingestion.readers.csv_files.parse import Table, parse_records
from ingestion.readers.csv_files.salvage import salvage
from ingestion.readers.framing import Chunk, Lines, is_plain, set_lines_aside, set_overlong_aside


def read_chunk(draft: ParcelDraft, chunk: Chunk, table: Table, header_bytes: int) -> Parcel:
    """The parcel of one chunk, whose first `header_bytes` bytes are the header line and no record."""
    body = chunk.after(header_bytes)
    skipped = 0
    if body.is_overlong:
        set_overlong_aside(draft, body)
    elif body.data:
        framed = _read_framed(draft, body, table)
        skipped = salvage(draft, body, table) if framed is None else framed
    return draft.seal(
        columns=table.columns,
        skipped=skipped,
        size_bytes=chunk.end,
        start_bytes=chunk.offset,
        position_bytes=chunk.end,
        lines=body.first_line - 1 + body.lines,
    )


def _read_framed(draft: ParcelDraft, body: Chunk, table: Table) -> int | None:
    """The blank lines skipped, once the rows are in `draft`; None where frame and parser do not agree."""
    data, lines = body.data, body.lines
    if b"\r" in data:
        if data.count(b"\r") != data.count(b"\r\n"):
            return None
        # A parser may take a mixture of line ends for an error.
        data = data.replace(b"\r\n", b"\n")
    if b"\0" in data or not is_regular(data, table):
        return None
    # One clean record a line is the usual case. The parser checks the encoding as well.
    rows = _parsed(data, table, lines)
    if rows is not None and adds_up(data, rows, table):
        draft.set_rows(rows, body.first_line)
        return 0
    if not is_plain(data):
        return None
    frame = frame_records(data, table)
    if frame is None:
        return None
    good = frame.is_good
    count = int(good.sum())
    if count:
        rows = _parsed(Lines(data).kept(frame.good_lines()), table, count)
        if rows is None:
            return None
        draft.set_rows(rows, body.first_line + frame.first_lines[good])
    ragged = frame.is_ragged
    set_lines_aside(
        draft,
        Lines(body.data),
        body,
        frame.first_lines[ragged],
        frame.last_lines[ragged],
        "ragged_line",
        f"the line does not have the {len(table.columns)} columns of the header",
    )
    return int(frame.is_blank.sum())


def _parsed(data: bytes, table: Table, count: int) -> pa.Table | None:
    """The records of `data`, if the parser finds just `count` of them."""
    try:
        rows = parse_records(data, table)
    except ValueError:  # ArrowInvalid is one; a delimiter of several bytes is another
        return None
    return rows if rows.num_rows == count else None
