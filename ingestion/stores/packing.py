"""Packed files: known by their first bytes, unpacked in a stream, and proven whole by the time they are read."""

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingestion.stores.streams import RewindableStream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BUFFER_BYTES = 1024 * 1024
_BLOCK_BYTES = 128 * 1024
# What a file's own header may ask for; xz allows 4 GB. `xz -9` asks for 65 MB.
_XZ_MEMORY = 256 * 1024 * 1024
_BROKEN = (zlib.error, lzma.LZMAError, zstd.ZstdError)


@dataclass(frozen=True)
class _Packing:
    """A way to pack. `pads` says whether zeros may follow the data, as tapes and the format of xz have it."""

    name: str
    decoder: Callable[[], Any]
    pads: bool


_GZIP = _Packing("gzip", lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), pads=True)
_BZIP2 = _Packing("bzip2", bz2.BZ2Decompressor, pads=False)
_XZ = _Packing("xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), pads=True)
_ZSTD = _Packing("zstd", zstd.ZstdDecompressor, pads=False)
_MAGIC = {
    b"\x1f\x8b": _GZIP,
    b"\xfd7zXZ\0": _XZ,
    b"\x28\xb5\x2f\xfd": _ZSTD,
    **{bytes([0x50 + number]) + b"\x2a\x4d\x18": _ZSTD for number in range(16)},  # a frame that zstd skips
    **{b"BZh%d1AY&SY" % level: _BZIP2 for level in range(1, 10)},
    **{b"BZh%d\x17rE8P\x90" % level: _BZIP2 for level in range(1, 10)},  # of nothing
}
_ENDINGS = {".gz": _GZIP, ".bz2": _BZIP2, ".xz": _XZ, ".zst": _ZSTD}
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
}


def unpacked(stored: io.RawIOBase, name: str = "") -> io.BufferedIOBase:
    """The bytes of `stored`, unpacked when its first bytes say that they are packed.

    Raises OSError for an archive, and where only the name says that they are.
    """
    packed = io.BufferedReader(stored, BUFFER_BYTES)
    try:
        head = packed.read(16)
        packed.seek(0)
        for magic, what in _ARCHIVES.items():
            if head.startswith(magic):
                raise OSError(f"it is {what}: take the files out of it, or pack them with gzip or zstd")
        packing = next((packing for magic, packing in _MAGIC.items() if _begins(head, magic)), None)
        ending = "." + name.rpartition(".")[2].lower()
        if head and packing is None and ending in _ENDINGS:
            raise OSError(
                f"it is named {ending} and is not packed with {_ENDINGS[ending].name}, nor with anything else"
            )
        return packed if packing is None else io.BufferedReader(_Unpacked(packed, packing), BUFFER_BYTES)
    except BaseException:
        packed.close()
        raise


def _begins(head: bytes, magic: bytes) -> bool:
    """Whether `head` begins as `magic` says, or is all that is left of it in a file that was cut."""
    return head.startswith(magic) or (len(head) >= 4 and magic.startswith(head))


class _Unpacked(RewindableStream):
    """The data of a packed stream, of all its members one after the other.

    The readers of the standard library take what follows the last member of bzip2 and xz for nothing; here it is an
    error, as is an end before the end that the format marks.
    """

    def __init__(self, packed: io.BufferedIOBase, packing: _Packing) -> None:
        self._packed, self._packing = packed, packing
        self._begin()

    def _begin(self) -> None:
        self._decoder = self._packing.decoder()
        self._rest = b""

    def _rewind(self) -> None:
        self._packed.seek(0)
        self._begin()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while len(view):
            if self._decoder.eof and not self._next_member():
                return 0
            data = self._decode(len(view))
            if data:
                view[: len(data)] = data
                self._position += len(data)
                return len(data)
        return 0

    def _decode(self, length: int) -> bytes:
        """At most `length` bytes, none when the decoder wants more of the packed stream."""
        ended = False
        # The decoder of zlib hands back what it has not used; the others keep it and say what they need.
        if not self._rest and getattr(self._decoder, "needs_input", True):
            self._rest = self._packed.read(_BLOCK_BYTES)
            ended = not self._rest
        try:
            data = bytes(self._decoder.decompress(self._rest, length))
        except (*_BROKEN, OSError) as error:
            raise OSError(f"its {self._packing.name} data is broken: {error}") from error
        self._rest = getattr(self._decoder, "unconsumed_tail", b"")
        if ended and not data and not self._decoder.eof:
            raise EOFError(f"it is cut short: its {self._packing.name} data does not come to its end")
        return data

    def _next_member(self) -> bool:
        """Whether more data follows the member that ended; the decoder is then ready for it."""
        self._rest = self._decoder.unused_data
        while True:
            self._rest = self._rest or self._packed.read(_BLOCK_BYTES)
            if not self._rest:
                return False
            if self._packing.pads:
                self._rest = self._rest.lstrip(b"\0")
            if self._rest:
                self._decoder = self._packing.decoder()
                return True

    def close(self) -> None:
        if not self.closed:
            self._packed.close()
        super().close()
