"""Streams that are read from their start, and again from there: what all that reads a source needs."""

import io
from abc import abstractmethod


class RewindableStream(io.RawIOBase):
    """A stream that can go back to its start and nowhere else; one that is packed or recoded has no other place.

    Subclasses give `readinto`, which moves `_position` on, and `_rewind`.
    """

    _position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("a source is read from its start")
        self._rewind()
        self._position = 0
        return 0

    @abstractmethod
    def _rewind(self) -> None:
        """Let the next byte be the first one again; where that fails, the position stays."""
