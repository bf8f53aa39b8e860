"""Local files: which ones a path names, where their links may lead, and that they hold still while they are read."""

import errno
import io
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import SourceError
from ingestion.stores.patterns import fits, has_wildcard, printable
from ingestion.stores.streams import RewindableStream

# A change within the grain of the file system's clock shows in no time stamp; the coarsest in use has 2 seconds.
CLOCK_GRAIN_NS = 2_000_000_000
_BLOCK_BYTES = 1024 * 1024
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class LocalPlace:
    """A local file. `allowed` are the folders that its links may lead to, resolved; None: anywhere."""

    path: Path
    location: str
    allowed: Sequence[Path] | None = None

    def open(self) -> io.RawIOBase:
        """Its bytes; a pipe or a device is refused instead of waited for. Raises OSError or SourceError."""
        try:
            path = Path(os.path.realpath(self.path, strict=True))
        except FileNotFoundError as error:
            if self.path.is_symlink():
                raise FileNotFoundError(errno.ENOENT, "it is a link to what is not there") from error
            raise
        if self.allowed is not None and not any(path.is_relative_to(folder) for folder in self.allowed):
            raise SourceError(
                f"the file leads to {printable(str(path))}, outside of the folders that may be read",
                where=self.location,
                fix="if that is meant, name that folder in allowed_roots",
            )
        return _LocalStream(path, self.location)

    def size(self) -> int:
        """Its bytes as they are stored. Raises OSError."""
        return self.path.stat().st_size


def find(root: Path, pattern: str, allowed_roots: Sequence[str] | None) -> list[tuple[LocalPlace, str, str | None]]:
    """Place, location and token of every file that `pattern` names. Raises SourceError when a folder cannot be read."""
    root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links too
    path = Path(os.path.normpath(root / re.sub(r"^(file|local)://", "", pattern)))
    folder, parts = _literal_part(root, path)
    if allowed_roots is None:
        allowed = [root, folder if parts else path.parent]
    else:
        allowed = [root, *(root / name for name in allowed_roots if "://" not in name)]
    resolved = [Path(os.path.realpath(name)) for name in allowed]
    try:
        matches = sorted(set(_expand(folder, parts, set()))) or [path]  # a name may hold what reads as a wildcard
        there = [match for match in matches if _is_there(match)]
    except OSError as error:
        raise SourceError(
            f"a folder cannot be read: {error.strerror}",
            where=printable(os.fsdecode(error.filename or str(folder))),
            fix="mend its permissions or path in penstock.yml",
        ) from error
    located = [(match, _location(root, match)) for match in there]
    return [(LocalPlace(match, location, resolved), location, _token(match)) for match, location in located]


def _literal_part(root: Path, path: Path) -> tuple[Path, list[str]]:
    """The folder before the first wildcard, and the parts from there on; none when there is no wildcard."""
    fixed = len(root.parts) if path.is_relative_to(root) else 0  # the root's own name may look like a pattern
    for number, part in enumerate(path.parts):
        if number >= fixed and has_wildcard(part):
            return Path(*path.parts[:number]), list(path.parts[number:])
    return path, []


def _expand(folder: Path, parts: Sequence[str], seen: set[tuple[int, int, int]]) -> Iterator[Path]:
    """The paths below `folder` that fit the parts of a pattern; of a folder with several names under ** only one.

    The standard library follows links that lead back up until the system refuses, on many paths at once when there are
    several, and leaves a folder that it may not read out without a word.
    """
    if not parts or not folder.is_dir():
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        about = folder.stat()
        identity = (about.st_dev, about.st_ino, len(parts))
        if identity in seen:
            return
        seen.add(identity)
        entries = _entries(folder)
        if rest:
            yield from _expand(folder, rest, seen)
        else:
            yield from (Path(entry.path) for entry in entries if not _is_folder(entry))
        # Folders before links to them, so that a file keeps its location when somebody adds a link.
        for entry in sorted(entries, key=lambda one: (one.is_symlink(), one.name)):
            if _is_folder(entry):
                yield from _expand(Path(entry.path), parts, seen)
    elif not has_wildcard(part):
        if rest:
            yield from _expand(folder / part, rest, seen)
        elif _is_there(folder / part):
            yield folder / part
    else:
        for entry in _entries(folder, part):
            if not rest:
                # `*` means the files of a folder; `*.csv` means what looks like a file, and a folder is told.
                if part != "*" or not _is_folder(entry):
                    yield Path(entry.path)
            elif _is_folder(entry):
                yield from _expand(Path(entry.path), rest, seen)


def _entries(folder: Path, part: str = "*") -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if fits(entry.name, part)]


def _is_there(path: Path) -> bool:
    """Whether there is something of that name, a broken link included. Raises OSError when nobody may look."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _location(root: Path, path: Path) -> str:
    """Relative to the root where it lies below it, so that a moved project stays the same."""
    return printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())


def _token(path: Path) -> str | None:
    """What changes whenever the file does. A modification time can be set by anyone; a change time cannot."""
    try:
        about = path.stat()
    except OSError:
        return None
    age = time.time_ns() - about.st_ctime_ns
    if age < CLOCK_GRAIN_NS or os.name == "nt":  # Windows keeps the time of creation there
        return None
    return f"{about.st_dev}-{about.st_ino}-{about.st_size}-{about.st_mtime_ns}-{about.st_ctime_ns}"


class _LocalStream(RewindableStream):
    """The bytes of one version of a file; an error at the end when it was rewritten or cut meanwhile.

    Growth is no change, and neither is a new file put in its place: the old one is then read to its end.
    """

    def __init__(self, path: Path, location: str) -> None:
        self._location = location
        self._file = io.FileIO(path, "rb", opener=_open_without_waiting)
        self._version = os.fstat(self._file.fileno())
        self._sum = 0

    def _rewind(self) -> None:
        self._check()
        self._file.seek(0)
        self._sum = 0

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        taken = self._file.readinto(view) or 0
        self._sum = zlib.crc32(view[:taken], self._sum)
        self._position += taken
        if not taken and len(view):
            self._check()
        return taken

    def _check(self) -> None:
        """Raises SourceError when the bytes that were read are not those of the file any more."""
        now = os.fstat(self._file.fileno())
        if _moments(now) == _moments(self._version):
            return
        # Time stamps and size cannot tell appending from rewriting; what was read can.
        if now.st_size < self._version.st_size or self._sum_again() != self._sum:
            raise SourceError("the file changed while it was read", where=self._location, fix="run again")
        self._version = now

    def _sum_again(self) -> int:
        self._file.seek(0)
        left, total = self._position, 0
        while left and (block := self._file.read(min(left, _BLOCK_BYTES))):
            total = zlib.crc32(block, total)
            left -= len(block)
        self._file.seek(self._position)
        return total

    def close(self) -> None:
        self._file.close()
        super().close()


def _moments(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _open_without_waiting(path: str, flags: int) -> int:
    """Only what is a file is opened: a pipe that nobody writes to would be waited for, a device may do anything."""
    _refuse_unless_file(os.stat(path))  # noqa: PTH116
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _refuse_unless_file(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_unless_file(about: os.stat_result) -> None:
    kind = _KINDS.get(stat.S_IFMT(about.st_mode))
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}")
