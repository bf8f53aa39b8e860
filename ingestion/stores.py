"""Where files lie: which ones a path names, and their bytes, unpacked."""

import glob
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import SourceError


@dataclass(frozen=True)
class StoredFile:
    """One file of a store. `location` is how raw names it; `token` tells its versions apart, None if nothing does."""

    path: Path
    location: str
    token: str | None = None

    def open(self) -> io.BufferedIOBase:
        """Its bytes from the start, unpacked when it is packed; what is packed is checked to its end by reading it all.

        Raises SourceError when it cannot be opened.
        """
        try:
            if self.path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            raw = self.path.open("rb")
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            return gzip.GzipFile(fileobj=raw) if packed else raw
        except OSError as error:
            raise self.unreadable(error) from error

    def size(self) -> int:
        """Its bytes as they are stored. Raises OSError."""
        return self.path.stat().st_size

    def unreadable(self, error: Exception) -> SourceError:
        """The error for a file that gives its bytes only in part or not at all."""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return SourceError(
            f"the file cannot be read: {reason}", where=self.location, fix="mend it or its permissions, run again"
        )


def find_files(root: Path, pattern: str, allowed_roots: Sequence[str] | None = None) -> list[StoredFile]:  # noqa: ARG001
    """The files that a source's path names, sorted by location. Raises SourceError when there is none."""
    absolute = pattern if Path(pattern).is_absolute() else str(Path(glob.escape(str(root))) / pattern)
    matches = glob.glob(absolute, recursive=True)  # noqa: PTH207 - takes absolute patterns too
    found = sorted(Path(name) for name in matches)
    if not found:
        raise SourceError("no file is there", where=pattern, fix="put the file there or mend path in penstock.yml")
    return [StoredFile(path, _location(root, path)) for path in found]


def _location(root: Path, path: Path) -> str:
    """Relative to the root where it lies below it, so that a moved project stays the same."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
