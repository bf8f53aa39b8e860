"""Documents as bounded stretches of whole items: the items of an array, or objects that follow each other.

A stretch ends after its last item, so that the file can grow there: what follows is a comma or the end of the array.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingestion.parcels import LONGEST_RECORD_KEPT
from ingestion.readers.framing import CHUNK_BYTES, KnownPrefix
from ingestion.readers.json_files.bits import BLOCK_BYTES, Context, Places, Scan, find_separators, scan

LONGEST_RECORD = 64 * 1024 * 1024
BLANK = b" \t\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What a hash of a broken document has after it: no file begins with that, so nothing is read on after the break.
BROKEN_SEAL = b"\0broken"

_IS_BLANK = np.zeros(256, bool)
_IS_BLANK[list(BLANK)] = True


@dataclass(frozen=True)
class Stretch:
    """Whole items of a document. `data` lies at `offset` of the file; `starts` and `ends` are places in it.

    `digest` has hashed the file up to `offset`; `prefix_hash` is the SHA-256 up to the end of the last item.
    """

    data: bytes
    offset: int
    starts: Places
    ends: Places
    first_item: int
    start_bytes: int
    prefix_hash: str
    digest: Any
    found: Scan

    @property
    def end_bytes(self) -> int:
        """Position in the file just after the last item."""
        return self.offset + (int(self.ends[-1]) if self.ends.size else 0)


@dataclass(frozen=True)
class Overlong:
    """An item larger than `LONGEST_RECORD`, of which only the head was kept."""

    head: bytes
    offset: int
    end_bytes: int
    item: int
    start_bytes: int
    prefix_hash: str


@dataclass(frozen=True)
class Break:
    """Where a document stops being one: nothing from there on is taken for a record."""

    offset: int
    item: int
    start_bytes: int
    message: str


def read_document(
    stream: io.BufferedIOBase,
    known: KnownPrefix | None,
    *,
    is_array: bool,
    chunk_bytes: int = CHUNK_BYTES,
    longest: int = LONGEST_RECORD,
) -> Iterator[Stretch | Overlong | Break]:
    """What comes after `known` in a document, whole items each time; a Break is the last of them.

    Yields nothing when there is nothing new. Where the head is not what it was, all of the document is read.
    """
    document = _Document(stream, is_array, chunk_bytes, longest)
    if known is not None and not document.resume(known):
        return
    yield from document.read()


def item_spans(data: bytes | memoryview, start: int) -> tuple[Places, Places, int]:
    """Where the items of the array (or the members of the object) that opens at `start` begin and end in `data`.

    The third is the place after its closing bracket. Raises ValueError when nothing opens there or it never closes.
    """
    view = memoryview(data)
    if bytes(view[start : start + 1]) not in (b"[", b"{"):
        raise ValueError(f"no list opens at byte {start}")
    context = Context(depth=1)
    found: list[Places] = [np.array([start])]
    codes = np.frombuffer(view, np.uint8)
    for offset in range(start + 1, len(view), BLOCK_BYTES):
        separators = find_separators(view[offset : offset + BLOCK_BYTES], context, 1) + offset
        closing = np.flatnonzero(codes[separators] != ord(","))
        if closing.size:
            found.append(separators[: closing[0] + 1])
            break
        found.append(separators)
    else:
        raise ValueError(f"the list that opens at byte {start} never closes")
    places = np.concatenate(found)
    starts, ends = trim(codes, places[:-1] + 1, places[1:])
    is_empty = int(len(starts) == 1 and starts[0] == ends[0])
    return starts[is_empty:], ends[is_empty:], int(places[-1]) + 1


def list_start(data: bytes, path: Sequence[str]) -> int:
    """Where the list at `path` opens in `data`, JSON text that has one there. Raises ValueError when it has not."""
    codes = np.frombuffer(data, np.uint8)
    head = len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0
    place = int(trim(codes, np.array([head]), np.array([len(data)]))[0][0])
    decoder = json.JSONDecoder()
    for part in path:
        if data[place : place + 1] != b"{":
            raise ValueError(f"no object holds {part!r}")
        value = None
        for start, end in zip(*(spans.tolist() for spans in item_spans(data, place)[:2]), strict=True):
            key_end = start + _KEY_BYTES if end - start > _KEY_BYTES else end
            key, length = decoder.raw_decode(data[start:key_end].decode(errors="replace"))
            if key == part:  # of a key that is there twice the last one counts, as in json.loads
                text = data[start:key_end].decode(errors="replace")[:length]
                colon = data.index(b":", start + len(text.encode()))
                value = int(trim(codes, np.array([colon + 1]), np.array([end]))[0][0])
        if value is None:
            raise ValueError(f"no key {part!r}")
        place = value
    if data[place : place + 1] != b"[":
        raise ValueError("no list is there")
    return place


# A key longer than this is none that a path names.
_KEY_BYTES = 10_000


class _Document:
    """A document that is being read: what was hashed and counted, and the bytes after that."""

    def __init__(self, stream: io.BufferedIOBase, is_array: bool, chunk_bytes: int, longest: int) -> None:
        self._stream = stream
        self._level = int(is_array)
        self._chunk_bytes = chunk_bytes
        self._longest = longest
        self._begin()

    def _begin(self) -> None:
        self._digest = hashlib.sha256()
        self._pending = b""
        self._offset = 0  # of the first byte of `pending`; all before it is hashed
        self._start_bytes = 0
        self._count = 0
        self._is_opened = False

    def resume(self, known: KnownPrefix) -> bool:
        """Go to the end of what is known, or to the start when that changed; False when nothing is new."""
        left, last = known.position_bytes, b""
        while left and (block := self._stream.read(min(left, self._chunk_bytes))):
            self._digest.update(block)
            left -= len(block)
            last = block[-1:]
        sealed = self._digest.copy()
        sealed.update(BROKEN_SEAL)
        if left == 0 and sealed.hexdigest() == known.content_hash and not self._stream.read(1):
            return False
        if left == 0 and self._digest.hexdigest() == known.content_hash:
            self._offset = self._start_bytes = known.position_bytes
            self._count = known.lines
            self._is_opened = True
            self._pending = self._stream.read(self._chunk_bytes)
            if self._count == 0 and not self._pending:
                return False
            if self._goes_on(last, self._pending.lstrip(BLANK)[:1]):
                return True
        self._stream.seek(0)
        self._begin()
        return True

    def _goes_on(self, last: bytes, following: bytes) -> bool:
        """Whether a document may go on with this byte after the last one that is known."""
        if self._count == 0:
            return self._level == 1 and last == b"["
        return following in ((b"", b",", b"]") if self._level else (b"", b"{", b"["))

    def read(self) -> Iterator[Stretch | Overlong | Break]:
        """All that follows."""
        is_new = not self._is_opened
        if is_new and not self._open():
            return
        fresh = self._pending
        self._pending = b""
        at_end = False
        while True:
            fresh = fresh or self._stream.read(self._chunk_bytes)
            at_end = not fresh
            self._pending += fresh
            fresh = b""
            context = Context(depth=self._level)
            found = scan(self._pending, context, self._level)
            items = self._items(found.separators)
            is_new = is_new and not len(items.starts)
            if len(items.starts):
                yield self._stretch(items, found)
            if items.damage is not None:
                yield self._break(items.rest, items.damage)
                return
            if items.is_closed:
                yield from self._tail(items.rest, is_new)
                return
            if at_end:
                if self._level or items.rest < len(self._pending):
                    yield self._break(items.rest, _CUT_SHORT)
                return
            if len(self._pending) - items.rest > self._longest or len(self._pending) > 2 * self._longest:
                skipped = self._skip(items.rest, context)
                yield skipped
                if isinstance(skipped, Break):
                    return
                is_new = False
                fresh, self._pending = self._pending, b""

    def _open(self) -> bool:
        """Read past a byte order mark and the bracket of an array; False when the document is blank."""
        mark = self._stream.read(len(BYTE_ORDER_MARK))
        head = mark.removeprefix(BYTE_ORDER_MARK)
        self._pending = mark
        while not head.strip(BLANK):
            self._digest.update(self._pending)
            self._offset += len(self._pending)
            head = self._pending = self._stream.read(self._chunk_bytes)
            if not head:
                return False
        before = len(self._pending) - len(head.lstrip(BLANK)) + self._level
        self._digest.update(self._pending[:before])
        self._offset += before
        self._pending = self._pending[before:]
        return True

    def _items(self, separators: Places) -> "_Items":
        return self._array_items(separators) if self._level else self._object_items(separators)

    def _array_items(self, separators: Places) -> "_Items":
        codes = np.frombuffer(self._pending, np.uint8)
        closing = np.flatnonzero(codes[separators] != ord(","))
        is_closed = bool(closing.size)
        if is_closed:
            separators = separators[: closing[0] + 1]
        if self._count == 0:  # the bracket that opens the array stands before the first item
            separators = np.append(-1, separators)
        elif separators.size and (stray := self._first_black(0)) != separators[0]:
            return _Items(separators[:0], separators[:0], stray, damage="text stands where a comma should be")
        starts, ends = trim(codes, separators[:-1] + 1, separators[1:])
        if is_closed:
            if self._count == 0 and len(starts) == 1 and starts[0] == ends[0]:
                starts, ends = starts[1:], ends[1:]
            if codes[separators[-1]] != ord("]"):
                rest = int(starts[-1]) if len(starts) else int(separators[-1])
                return _Items(starts[:-1], ends[:-1], rest, damage="a bracket of another kind closes the array")
            return _Items(starts, ends, int(separators[-1]) + 1, is_closed=True)
        rest = int(separators[-1]) + 1 if separators.size else 0
        return _Items(starts, ends, self._first_black(rest))

    def _object_items(self, separators: Places) -> "_Items":
        codes = np.frombuffer(self._pending, np.uint8)
        ends = separators + 1
        starts, ends = trim(codes, np.append(0, ends[:-1])[: len(ends)], ends)
        stray = np.flatnonzero((codes[starts] | 32) != ord("{"))
        if stray.size:
            return _Items(starts[: stray[0]], ends[: stray[0]], int(starts[stray[0]]), damage=_STRAY)
        rest = self._first_black(int(ends[-1]) if ends.size else 0)
        is_stray = self._pending[rest : rest + 1] not in (b"", b"{", b"[")
        return _Items(starts, ends, rest, damage=_STRAY if is_stray else None)

    def _first_black(self, place: int) -> int:
        return len(self._pending) - len(self._pending[place:].lstrip(BLANK))

    def _stretch(self, items: "_Items", found: Scan) -> Stretch:
        before, end = self._digest.copy(), int(items.ends[-1])
        self._digest.update(memoryview(self._pending)[:end])
        stretch = Stretch(
            self._pending,
            self._offset,
            items.starts,
            items.ends,
            self._count + 1,
            self._start_bytes,
            self._digest.hexdigest(),
            before,
            found,
        )
        self._count += len(items.starts)
        items.rest -= end
        self._move(end)
        return stretch

    def _move(self, end: int) -> None:
        self._offset += end
        self._start_bytes = self._offset
        self._pending = self._pending[end:]

    def _break(self, place: int, message: str) -> Break:
        return Break(self._offset + place, self._count + 1, self._start_bytes, message)

    def _tail(self, place: int, is_new: bool) -> Iterator[Stretch | Break]:
        """What is after the end of an array: nothing, or a Break. An empty array that is new is told as a stretch."""
        if is_new:
            nothing = np.empty(0, np.int64)
            found = scan(b"", Context(), self._level)
            hashed = self._digest.hexdigest()
            yield Stretch(b"", self._offset, nothing, nothing, 1, self._start_bytes, hashed, self._digest, found)
            self._start_bytes = self._offset
        while True:
            text = self._pending[place:].lstrip(BLANK)
            if text:
                yield self._break(len(self._pending) - len(text), "text follows the end of the array")
                return
            self._offset += len(self._pending)
            place, self._pending = 0, self._stream.read(self._chunk_bytes)
            if not self._pending:
                return

    def _skip(self, place: int, context: Context) -> Overlong | Break:
        """Read past an item that is too long to hold, from the end of `pending`, which is then what comes after it."""
        head = self._pending[place : place + LONGEST_RECORD_KEPT]
        cut_short = self._break(place, _CUT_SHORT)
        start_bytes = self._start_bytes
        while True:
            self._digest.update(self._pending)
            self._move(len(self._pending))
            self._pending = self._stream.read(self._chunk_bytes)
            if not self._pending:
                return cut_short
            separators = find_separators(self._pending, context, self._level)
            if separators.size:
                break
        end = int(separators[0]) + 1 - self._level
        self._digest.update(self._pending[:end])
        self._move(end)
        self._count += 1
        return Overlong(head, cut_short.offset, self._offset, self._count, start_bytes, self._digest.hexdigest())


_CUT_SHORT = "the document ends before it is complete"
_STRAY = "text stands where an object should begin"


@dataclass
class _Items:
    """The whole items in some bytes, and where what follows them begins."""

    starts: Places
    ends: Places
    rest: int
    is_closed: bool = False
    damage: str | None = None


def trim(codes: NDArray[np.uint8], starts: Places, ends: Places) -> tuple[Places, Places]:
    """The spans without the blanks at their two ends."""
    starts, ends = starts.copy(), ends.copy()
    for moving, step in ((starts, 1), (ends, -1)):
        open_ = np.arange(len(starts))
        for _ in range(_SHORT_BLANK):
            open_ = open_[starts[open_] < ends[open_]]
            open_ = open_[_IS_BLANK[codes[moving[open_] - (step < 0)]]]
            if not open_.size:
                break
            moving[open_] += step
        for index in open_.tolist():  # few: a long blank takes room
            text = codes[starts[index] : ends[index]].tobytes()
            starts[index] += len(text) - len(text.lstrip(BLANK))
            ends[index] -= len(text) - len(text.rstrip(BLANK)) if step < 0 else 0
    return starts, ends


_SHORT_BLANK = 64
