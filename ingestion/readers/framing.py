"""Files as bounded chunks of whole lines, with their place, their hash and the lines that no parser can read.

Nothing here loops over lines in Python: newlines are found by numpy, encodings checked by the decoder of CPython.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from foundation.failpoints import failpoint
from ingestion.parcels import LONGEST_RECORD_KEPT, DeadLetter, ParcelDraft

CHUNK_BYTES = 16 * 1024 * 1024
SMALLEST_READ = 256 * 1024
# A longer line is no record that anything after raw could use; it is set aside without being held in memory.
LONGEST_LINE = 64 * 1024 * 1024
NEWLINE, RETURN = 10, 13
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """Whole lines of a file. `prefix_hash` is the SHA-256 of the file from its start to `end`, just after this chunk.

    Of one line that is longer than LONGEST_LINE only the head is in `data`.
    """

    data: bytes
    offset: int
    first_line: int
    prefix_hash: str
    end: int

    @property
    def is_overlong(self) -> bool:
        """Whether it is one line too long to be held."""
        return self.end - self.offset > len(self.data)

    @property
    def lines(self) -> int:
        """How many lines it has, a last one without a newline counted."""
        if self.is_overlong:
            return 1
        return count_newlines(self.data) + bool(self.data and not self.data.endswith(b"\n"))

    def after(self, head: int) -> "Chunk":
        """The same without its first `head` bytes."""
        return Chunk(
            self.data[head:],
            self.offset + head,
            self.first_line + self.data.count(b"\n", 0, head),
            self.prefix_hash,
            self.end,
        )


@dataclass(frozen=True)
class KnownPrefix:
    """What an earlier run has read of a file: this many bytes and lines, with this hash, in this dialect."""

    position_bytes: int
    lines: int
    content_hash: str
    dialect: str | None = None


def last_line_end(held: bytearray, length: int) -> int:
    """Where the last of the lines that end within the first `length` bytes ends; 0 without one."""
    return held.rfind(b"\n", 0, length) + 1


def read_chunks(
    stream: io.BufferedIOBase,
    known: KnownPrefix | None,
    *,
    cut: Callable[[bytearray, int], int] = last_line_end,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Chunk]:
    """The part of `stream` after `known`, cut where `cut` says: after the last record that ends within so many bytes.

    Yields nothing when there is nothing after it. Where the head is not what it was, reading starts anew at offset 0.
    """
    digest = hashlib.sha256()
    offset, line = 0, 1
    if known is not None:
        offset = _skip(stream, known, digest)
        if offset:
            line = known.lines + 1
        else:
            stream.seek(0)
            digest = hashlib.sha256()
    # What was read and is not yet given out lies at the front of one buffer: a chunk is copied once.
    held, length = bytearray(), 0
    while True:
        fresh = _fill(stream, held, length, chunk_bytes)
        length += fresh
        if not length:
            return
        at_end = fresh < chunk_bytes
        place = length if at_end else cut(held, length)
        if place > 0:
            with memoryview(held) as front:
                data = bytes(front[:place])
            digest.update(data)
            end, left = offset + place, held[place:length]
        elif length <= LONGEST_LINE:  # one line longer than a chunk: read on until it ends
            continue
        else:
            data = bytes(held[:LONGEST_RECORD_KEPT])
            passed, left = _pass_line(stream, held[:length], digest, chunk_bytes)
            end = offset + passed
        failpoint("chunk.hashed")
        yield Chunk(data, offset, line, digest.hexdigest(), end)
        offset, line = end, line + max(1, count_newlines(data))
        if at_end:
            return
        held[: len(left)] = left
        length = len(left)


def _fill(stream: io.BufferedIOBase, held: bytearray, start: int, wanted: int) -> int:
    """Read into `held` from `start` on; how many bytes, fewer than `wanted` where the stream ends.

    `held` grows as they come, because most files are small.
    """
    place, stop = start, start + wanted
    while place < stop:
        if place == len(held):
            held += bytes(min(max(len(held), SMALLEST_READ), stop - place))
        with memoryview(held) as room:
            count = stream.readinto(room[place:stop])
        if not count:
            break
        place += count
    return place - start


def _pass_line(stream: io.BufferedIOBase, block: bytearray, digest: Any, block_bytes: int) -> tuple[int, bytearray]:
    """Read past a line that began with `block`: its length with its newline, and what was read beyond it."""
    length = 0
    while True:
        end = block.find(b"\n") + 1
        digest.update(block[:end] if end else block)
        length += end or len(block)
        if end:
            return length, block[end:]
        block = bytearray(stream.read(block_bytes))
        if not block:
            return length, block


def _skip(stream: io.BufferedIOBase, known: KnownPrefix, digest: Any) -> int:
    """Read past the known prefix; where the new bytes start, or 0 when the head is not what it was."""
    left, last = known.position_bytes, b"\n"
    while left:
        block = stream.read(min(left, CHUNK_BYTES))
        if not block:
            return 0
        digest.update(block)
        last = block[-1:]
        left -= len(block)
    if digest.hexdigest() != known.content_hash:
        return 0
    if last == b"\n":
        return known.position_bytes
    # The last line had no newline, so more bytes would belong to it, unless the first of them ends it.
    following = stream.read(1)
    if following == b"\n":
        digest.update(following)
        return known.position_bytes + 1
    return known.position_bytes if following == b"" else 0


def count_newlines(data: bytes) -> int:
    """As data.count(b"\\n"), but a third of the time where lines are short."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == NEWLINE))


class Lines:
    """The lines of a chunk as arrays: where each starts and ends (its newline left out), in bytes of the chunk."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.codes: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(self.codes == NEWLINE)
        if data and not data.endswith(b"\n"):
            ends = np.append(ends, len(data))
        self.ends: NDArray[np.int64] = ends.astype(np.int64)
        self.starts: NDArray[np.int64] = np.concatenate([[0], self.ends[:-1] + 1]).astype(np.int64)[: len(ends)]

    def __len__(self) -> int:
        return len(self.ends)

    def blank(self) -> NDArray[np.bool_]:
        """Which lines hold nothing but their line end."""
        length = self.ends - self.starts
        only_return = np.zeros(len(self), bool)
        one = np.flatnonzero(length == 1)
        only_return[one] = self.codes[self.starts[one]] == RETURN
        blank: NDArray[np.bool_] = (length == 0) | only_return
        return blank

    def quotes(self, quote: bytes) -> NDArray[np.int64]:
        """How many quote characters each line holds."""
        if not quote:
            return np.zeros(len(self), np.int64)
        places = np.flatnonzero(self.codes == quote[0])
        return np.searchsorted(places, self.ends) - np.searchsorted(places, self.starts)

    def bytes_of(self, first: int, last: int) -> bytes:
        """Lines `first` to `last`, both included, without the newline of the last."""
        return self.data[self.starts[first] : self.ends[last]]

    def kept(self, keep: NDArray[np.bool_]) -> bytes:
        """The lines marked in `keep`, each ended by a newline; runs of kept lines are copied as one."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], keep.astype(np.int8), [0]])))
        runs = zip(edges[::2], edges[1::2] - 1, strict=True)
        parts = [self.data[self.starts[first] : self.ends[last]] for first, last in runs]
        return b"\n".join(parts) + b"\n" if parts else b""


def undecodable_lines(lines: Lines) -> dict[int, str]:
    """Lines with a NUL byte or bytes that are no UTF-8, by index, with what is wrong."""
    if is_plain(lines.data):
        return {}
    found = {int(i): "a NUL byte" for i in _lines_of(lines, np.flatnonzero(lines.codes == 0))}
    view = memoryview(lines.data)
    # Ever longer stretches of good lines, ever shorter ones where bad lines are many.
    index, step = 0, 1
    while index < len(lines):
        stop = min(index + step, len(lines))
        start = int(lines.starts[index])
        try:
            str(view[start : int(lines.ends[stop - 1])], "utf-8")
            index, step = stop, step * 2
        except UnicodeDecodeError as error:
            place = start + error.start
            bad = int(np.searchsorted(lines.ends, place))
            found[bad] = f"byte 0x{lines.data[place]:02x} is not valid UTF-8"
            index, step = bad + 1, bad - index + 1
    return found


def is_plain(data: bytes) -> bool:
    """Whether the bytes are UTF-8 without NUL, the quick check that spares the search for bad lines."""
    if b"\0" in data:
        return False
    # Arrow looks at the bytes as they lie there; decode would copy them, at four bytes a character where they are rare.
    text = pa.LargeStringArray.from_buffers(1, pa.py_buffer(np.array([0, len(data)], np.int64)), pa.py_buffer(data))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def set_lines_aside(
    draft: ParcelDraft, lines: Lines, chunk: Chunk, first: Places, last: Places, reason: str, message: str
) -> None:
    """Dead letters for records that go from line first[i] to line last[i], with the bytes as they are in the file."""
    if not len(first):
        return
    starts, ends = lines.starts[first], lines.ends[last]
    # The lines of these records side by side: where there are many, no record is handled on its own.
    taken = np.zeros(len(lines) + 1, np.int64)
    np.add.at(taken, first, 1)
    np.add.at(taken, last + 1, -1)
    stops = np.cumsum(ends - starts + 1)
    offsets = np.concatenate([[0], stops]).astype(np.int64)
    kept = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        len(first),
        [None, pa.py_buffer(offsets), pa.py_buffer(lines.kept(np.cumsum(taken)[:-1] > 0))],
    )
    draft.add_letters(
        reason,
        message,
        records=pc.binary_slice(kept, 0, -1),
        lines=chunk.first_line + first,
        offsets=chunk.offset + starts,
        lengths=ends - starts,
    )


def set_overlong_aside(draft: ParcelDraft, chunk: Chunk) -> None:
    """The dead letter for a line that is too long to be held: its head, and how long it is."""
    length = chunk.end - chunk.offset
    draft.letters.append(
        DeadLetter(
            "line_too_long",
            f"the line has {length:,} bytes, more than {LONGEST_LINE:,}",
            chunk.data,
            line=chunk.first_line,
            byte_offset=chunk.offset,
            byte_length=length,
        )
    )


def _lines_of(lines: Lines, places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(np.searchsorted(lines.ends, places))
