"""Records as spans of the bytes that hold them: no copy on the way from the file to Arrow, DuckDB and parquet."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.readers.json_files.bits import Places

# Arrow keeps a text this short in its view; of a longer one the first four bytes and its place.
_INLINE = 12


@dataclass(frozen=True)
class Records:
    """Spans of `data`, each with its line, or the number of its item."""

    data: bytes
    starts: Places
    ends: Places
    numbers: Places

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, chosen: NDArray[np.int64] | slice) -> "Records":
        return Records(self.data, self.starts[chosen], self.ends[chosen], self.numbers[chosen])

    def length(self) -> Places:
        """How many bytes each record has."""
        length: Places = self.ends - self.starts
        return length

    def text(self, index: int, longest: int | None = None) -> bytes:
        """The bytes of one record, or the first of them."""
        start, end = int(self.starts[index]), int(self.ends[index])
        return self.data[start : end if longest is None else min(end, start + longest)]

    def owners(self, places: Places) -> tuple[Places, Places]:
        """The records that hold these sorted places, by index, and of each the first place that it holds."""
        if not len(self):
            return places[:0], places[:0]
        index = np.searchsorted(self.ends, places, side="right")
        inside = index < len(self)
        index, places = index[inside], places[inside]
        held = self.starts[index] <= places
        owners, first = np.unique(index[held], return_index=True)
        return owners, places[held][first]

    def array(self) -> pa.Array:
        """The records as Arrow text, which they must be."""
        length = self.length()
        views = np.zeros((len(self), 4), np.int32)
        views[:, 0] = length
        short, long = np.flatnonzero(length <= _INLINE), np.flatnonzero(length > _INLINE)
        if long.size:
            fours = np.ndarray(len(self.data) - 3, np.int32, self.data, strides=(1,))
            views[long, 1] = fours[self.starts[long]]
            views[long, 3] = self.starts[long]
        if short.size:
            codes = np.frombuffer(self.data + bytes(_INLINE), np.uint8)
            inline = codes[self.starts[short][:, None] + np.arange(_INLINE)]
            inline[np.arange(_INLINE) >= length[short][:, None]] = 0
            views[short, 1:] = inline.view(np.int32)
        buffers = [None, pa.py_buffer(views), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.string_view(), len(self), buffers)


def is_text(data: bytes) -> bool:
    """Whether the bytes are UTF-8 without NUL, checked without a copy of them."""
    if b"\0" in data:
        return False
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def broken_bytes(codes: NDArray[np.uint8]) -> Places:
    """The places of bytes that are no UTF-8, as table 3-7 of the Unicode Standard has it."""
    places = np.flatnonzero(codes >= 0x80)
    found = codes[places]
    # How many bytes of the form 10xxxxxx a byte asks for after it; 0 for those, and for bytes that begin nothing.
    wanted = np.select([found < 0xC2, found < 0xE0, found < 0xF0, found < 0xF5], [0, 1, 2, 3], 0)
    continues = found < 0xC0
    is_whole = wanted > 0
    for step in (1, 2, 3):
        follows = np.zeros(len(found), bool)
        follows[: max(len(found) - step, 0)] = (places[step:] - places[:-step] == step) & continues[step:]
        is_whole &= (wanted < step) | follows
    second = np.append(found[1:], 0)
    lowest = np.select([found == 0xE0, found == 0xF0], [0xA0, 0x90], 0x80)
    highest = np.select([found == 0xED, found == 0xF4], [0x9F, 0x8F], 0xBF)
    is_whole &= (second >= lowest) & (second <= highest)
    is_good = is_whole.copy()
    for step in (1, 2, 3):
        is_good[np.flatnonzero(is_whole & (wanted >= step)) + step] = True
    broken: Places = places[~is_good]
    return broken
