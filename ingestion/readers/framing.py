"""Files as bounded chunks of whole lines, with their place, their hash and the lines that no parser can read.

Nothing here loops over lines in Python: newlines are found by numpy, encodings checked by the decoder of CPython.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingestion.parcels import DeadLetter

CHUNK_BYTES = 64 * 1024 * 1024
NEWLINE, RETURN = 10, 13


@dataclass(frozen=True)
class Chunk:
    """Whole lines of a file. `prefix_hash` is the SHA-256 of the file from its start to the end of this chunk."""

    data: bytes
    offset: int
    first_line: int
    prefix_hash: str
    is_last: bool

    @property
    def end(self) -> int:
        """Position in the file just after this chunk, in bytes."""
        return self.offset + len(self.data)


@dataclass(frozen=True)
class KnownPrefix:
    """What an earlier run has read of a file: this many bytes and lines, with this hash."""

    position_bytes: int
    lines: int
    content_hash: str


def read_chunks(
    stream: io.BufferedIOBase, known: KnownPrefix | None, *, quote: bytes = b"", chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Chunk]:
    """The part of `stream` after `known`, cut where a line ends and no quoted field is open.

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
    pending = b""
    while True:
        fresh = stream.read(chunk_bytes)
        buffer = pending + fresh
        if not buffer:
            return
        at_end = len(fresh) < chunk_bytes
        cut = len(buffer) if at_end else _cut(buffer, quote)
        if cut == 0:  # one line longer than a chunk: read on until it ends
            pending = buffer
            continue
        data, pending = buffer[:cut], buffer[cut:]
        digest.update(data)
        yield Chunk(data, offset, line, digest.hexdigest(), at_end)
        offset += len(data)
        line += data.count(b"\n")
        if at_end:
            return


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


def _cut(buffer: bytes, quote: bytes) -> int:
    last = buffer.rfind(b"\n") + 1
    if last == 0 or not quote or buffer.count(quote, 0, last) % 2 == 0:
        return last
    # An open quote at the cut: go back to the last line end at which none is open. A stray quote leaves every
    # later line end open; then the plain cut serves as well as any, and the parser's own check finds the stray.
    codes = np.frombuffer(buffer, np.uint8, last)
    ends = np.flatnonzero(codes == NEWLINE)
    quotes = np.flatnonzero(codes == quote[0])
    closed = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return int(closed[-1]) + 1 if closed.size else last


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
    found = {int(i): "a NUL byte" for i in _lines_of(lines, np.flatnonzero(lines.codes == 0))}
    position = 0
    view = memoryview(lines.data)
    while position < len(lines.data):
        try:
            str(view[position:], "utf-8")
            break
        except UnicodeDecodeError as error:
            index = int(np.searchsorted(lines.ends, position + error.start))
            byte = lines.data[position + error.start]
            found[index] = f"byte 0x{byte:02x} is not valid UTF-8"
            position = int(lines.ends[index]) + 1
    return found


def is_plain(data: bytes) -> bool:
    """Whether the bytes are UTF-8 without NUL, the quick check that spares the search for bad lines."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def letter_for_lines(lines: Lines, chunk: Chunk, first: int, last: int, reason: str, message: str) -> DeadLetter:
    """The dead letter for the lines `first` to `last` of a chunk, with the bytes as they are in the file."""
    record = lines.bytes_of(first, last)
    return DeadLetter(
        reason=reason,
        message=message,
        record=record,
        line=chunk.first_line + first,
        byte_offset=chunk.offset + int(lines.starts[first]),
        byte_length=len(record),
    )


def _lines_of(lines: Lines, places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(np.searchsorted(lines.ends, places))
