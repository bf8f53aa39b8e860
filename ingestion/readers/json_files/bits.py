"""JSON text as masks with one bit a byte: what lies in a string, how deep, and where a record's keys stand.

Nothing here loops over bytes or items. Counting whether something is open (a string, a bracket, a value) is done on
whole 64-bit words: a running parity is six shifts, and a depth is as many parities as it has binary digits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

# All masks of one block fit the cache of a core.
BLOCK_BYTES = 1 << 20
# More brackets than any document can open; what closes more than it opened ends up there too.
_DEEPEST = 40
_ONE, _LAST = np.uint64(1), np.uint64(63)


@dataclass
class Context:
    """What holds at one place of a text: how many brackets are open, and what the bytes before it began."""

    depth: int = 0
    in_string: bool = False
    is_escaped: bool = False
    in_value: bool = False
    after_colon: bool = False
    after_comma: bool = False
    after_n: bool = False


@dataclass(frozen=True)
class Scan:
    """What a scan found, as places in the text.

    `separators` end items: commas between the items of the array and the bracket that ends it, or, outside of an
    array, the last byte of each item. `lenient` are places in NaN and Infinity, or after a trailing comma.
    `skeleton` is the text of all records less their values, of which a byte that tells the type is left (none for a
    number).
    """

    separators: Places
    lenient: Places
    skeleton: bytes
    _kept: Words = field(repr=False)

    def skeleton_offsets(self, starts: Places) -> Places:
        """How much of the skeleton comes before each of these places."""
        counts = np.bitwise_count(self._kept)
        before = np.cumsum(counts, dtype=np.int64) - counts
        word, bit = starts >> 6, (starts & 63).astype(np.uint64)
        inside = np.bitwise_count(self._kept[word] & ((_ONE << bit) - _ONE))
        return np.asarray(before[word] + inside, np.int64)


def scan(text: bytes | memoryview, context: Context, level: int) -> Scan:
    """Scan `text`, which begins in `context`; that tells afterwards what holds at its end.

    `level` is the depth between the records: 1 in an array, 0 outside.
    """
    separators: list[Places] = [np.empty(0, np.int64)]
    lenient: list[Places] = [np.empty(0, np.int64)]
    skeleton: list[bytes] = []
    kept: list[Words] = []
    for offset, codes in _blocks(np.frombuffer(text, np.uint8)):
        block = _Block(codes, context, level)
        separators.append(places(block.separators) + offset)
        lenient.append(places(block.lenient()) + offset)
        keys = block.keys()
        skeleton.append(block.codes[_flags(keys)].tobytes())
        kept.append(keys)
    return Scan(np.concatenate(separators), np.concatenate(lenient), b"".join(skeleton), _joined(kept))


def find_separators(text: bytes | memoryview, context: Context, level: int) -> Places:
    """The `separators` of `scan` alone."""
    found = [np.empty(0, np.int64)]
    for offset, codes in _blocks(np.frombuffer(text, np.uint8)):
        found.append(places(_Block(codes, context, level).separators) + offset)
    return np.concatenate(found)


def places(words: Words) -> Places:
    """The places of the bits that are set."""
    used = np.flatnonzero(words)
    if not used.size:
        return used
    found = np.flatnonzero(_flags(words[used]))
    return np.asarray((used[found >> 6] << 6) + (found & 63), np.int64)


class _Block:
    """The masks of one block; making it moves `context` to the end of the block."""

    def __init__(self, codes: Bytes, context: Context, level: int) -> None:
        self._context = context
        length = len(codes)
        if length % 64:
            codes = np.concatenate([codes, np.full(-length % 64, 32, np.uint8)])
        self.codes = codes
        quotes = codes == 34
        _drop_escaped(codes, quotes, context, length)
        self._quotes = _pack(quotes)
        self._string = _running_parity(self._quotes, context.in_string)
        context.in_string = bool(self._string[-1] >> _LAST)
        self._outside = ~self._string
        self._lower = codes | 32
        self._opens = _pack(self._lower == 0x7B) & self._outside
        self._closes = _pack(self._lower == 0x7D) & self._outside
        self._commas = _pack(codes == 44) & self._outside
        self._depth = _depth(self._opens, self._closes, context.depth)
        context.depth = sum(int(digit[-1] >> _LAST) << place for place, digit in enumerate(self._depth))
        self._level = level
        ends = self._closes & self._is_deep(max(level - 1, 0))
        self.separators = ends | (self._commas & self._is_deep(level)) if level else ends

    def lenient(self) -> Words:
        """Where NaN or Infinity, in any case, or a trailing comma is: DuckDB takes them for JSON.

        Outside the strings of a text that it takes, no other word has an n without an u after it.
        """
        self._black = _pack(self.codes > 32)
        self._n = _pack(self._lower == 110) & self._outside
        after_n = (self._n << _ONE) | _carried(self._n >> _LAST, self._context.after_n)
        self._context.after_n = bool(self._n[-1] >> _LAST)
        words = after_n & ~_pack(self.codes == 117) if after_n.any() else after_n
        following = self._black & ~self._commas
        gaps, self._context.after_comma = _reach(self._commas, following, self._context.after_comma)
        return words | (following & ~gaps & self._closes)

    def keys(self) -> Words:
        """The bytes that make the skeletons of the records; `codes` has true where it was false."""
        colons = _pack(self.codes == 58) & self._outside & self._is_deep(self._level + 1)
        ends = (self._commas & self._is_deep(self._level + 1)) | (self._closes & self._is_deep(self._level))
        values, self._context.in_value = _reach(colons, ends, self._context.in_value)
        following = self._black & ~colons
        gaps, self._context.after_colon = _reach(colons, following, self._context.after_colon)
        first = following & ~gaps
        false = first & _pack(self.codes == 102)
        if false.any():
            self.codes = self.codes ^ (_flags(false).view(np.uint8) * np.uint8(102 ^ 116))
        types = first & (self._quotes | self._opens | self._n | _pack(self.codes == 116))
        record = np.zeros_like(colons)
        for digit in self._depth[self._level :]:
            record |= digit
        kept: Words = (record & (self._black | self._string) & (~values | ends)) | colons | types
        return kept

    def _is_deep(self, depth: int) -> Words:
        """Where exactly so many brackets are open, counting the one at the place itself."""
        if depth >> len(self._depth):
            return np.zeros_like(self._opens)
        found = np.full_like(self._opens, ~np.uint64(0))
        for place, digit in enumerate(self._depth):
            found &= digit if depth >> place & 1 else ~digit
        return found


def _blocks(codes: Bytes) -> Iterator[tuple[int, Bytes]]:
    for offset in range(0, len(codes), BLOCK_BYTES):
        yield offset, codes[offset : offset + BLOCK_BYTES]


def _pack(flags: NDArray[np.bool_]) -> Words:
    return np.packbits(flags, bitorder="little").view(np.uint64)


def _flags(words: Words) -> NDArray[np.bool_]:
    return np.unpackbits(words.view(np.uint8), bitorder="little").view(np.bool_)


def _joined(words: list[Words]) -> Words:
    # One word more, so that the place after the last byte has one too.
    return np.concatenate([*words, np.zeros(1, np.uint64)])


def _carried(last: Words, before: bool) -> Words:
    """What each word takes over from the one before it."""
    carried = np.empty_like(last)
    carried[0], carried[1:] = before, last[:-1]
    return carried


def _running_parity(words: Words, before: bool) -> Words:
    """Each bit: whether the bits set up to it, itself and `before` counted in, are odd in number."""
    for shift in (1, 2, 4, 8, 16, 32):
        words = words ^ (words << np.uint64(shift))
    odd = _carried(np.bitwise_xor.accumulate(words >> _LAST), False) ^ np.uint64(before)
    return words ^ (np.uint64(0) - odd)


def _depth(opens: Words, closes: Words, before: int) -> list[Words]:
    """The number of open brackets at each place in binary, a mask for each digit, the lowest first.

    A digit flips where the one below it came to 0 by opening or to 1 by closing, as in adding and taking one.
    """
    digits: list[Words] = []
    flips = opens | closes
    while len(digits) < _DEEPEST and (before >> len(digits) or flips.any()):
        digit = _running_parity(flips, bool(before >> len(digits) & 1))
        flips = flips & ((opens & ~digit) | (closes & digit))
        digits.append(digit)
    return digits


def _reach(starts: Words, ends: Words, before: bool) -> tuple[Words, bool]:
    """All bits from each start up to the next end; and whether one is still open after the last word.

    Taking the starts from the ends borrows through every bit between them and clears the end that lent. Ends that
    no start reached stay set.
    """
    decided = starts != ends
    latest = np.maximum.accumulate(np.where(decided, np.arange(len(starts)), -1))
    borrows = np.where(latest >= 0, (starts > ends)[latest], before)
    return ends - starts - _carried(borrows.astype(np.uint64), before), bool(borrows[-1])


def _drop_escaped(codes: Bytes, quotes: NDArray[np.bool_], context: Context, length: int) -> None:
    """Unmark the quotes that a backslash escapes: those after an odd number of them."""
    escapes = np.flatnonzero(codes == 92)
    if context.is_escaped:
        quotes[0] = False
        if escapes.size and escapes[0] == 0:
            escapes = escapes[1:]
    context.is_escaped = False
    if not escapes.size:
        return
    is_first = np.diff(escapes, prepend=-2) != 1
    first = np.flatnonzero(is_first)
    counts = np.diff(first, append=len(escapes))
    escaped = (escapes[first] + counts)[counts % 2 == 1]
    if escaped.size and escaped[-1] == length:
        context.is_escaped = True
    quotes[escaped[escaped < len(codes)]] = False
