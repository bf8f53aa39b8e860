"""Where files lie, local or remote: which ones a path names, and their bytes, unpacked."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from foundation.errors import SourceError
from ingestion.stores import local, remote
from ingestion.stores.packing import unpacked

__all__ = ["StoredFile", "find_files"]


class Place(Protocol):
    """How one file of a store is reached."""

    def open(self) -> io.RawIOBase:
        """Its bytes as they are stored. Raises OSError or SourceError, at the end too when it changed meanwhile."""

    def size(self) -> int:
        """How many bytes that are; 0 where the store does not say. Raises OSError or SourceError."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a store. `location` is how raw names it; `token` tells its versions apart, None if nothing does.

    The token was taken when the file was found: what was written since then has another one.
    """

    place: Path | Place
    location: str
    token: str | None = None

    def open(self) -> io.BufferedIOBase:
        """Its bytes from the start, unpacked when they are packed; `seek(0)` begins anew.

        Raises SourceError when it cannot be opened. Reading raises OSError, EOFError or SourceError when the file is
        cut short, broken, or changed while it was read: at its end at the latest.
        """
        try:
            return unpacked(self._reached().open(), self.location)
        except (OSError, EOFError) as error:
            raise self.unreadable(error) from error

    def size(self) -> int:
        """Its bytes as they are stored, 0 where the store does not say. Raises OSError or SourceError."""
        return self._reached().size()

    def unreadable(self, error: Exception) -> SourceError:
        """The error for a file that gives its bytes only in part or not at all."""
        if isinstance(error, SourceError):
            return error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return SourceError(
            f"the file cannot be read: {reason}", where=self.location, fix="mend it or its permissions, run again"
        )

    def _reached(self) -> Place:
        return local.LocalPlace(self.place, self.location) if isinstance(self.place, Path) else self.place


def find_files(root: Path, pattern: str, allowed_roots: Sequence[str] | None = None) -> list[StoredFile]:
    """The files that a source's path names, sorted by location; one that cannot be read fails when it is opened.

    Raises SourceError when there is none or the store cannot be reached, ConfigError when a package is missing for it.
    """
    found: Sequence[tuple[Place, str, str | None]]
    if remote.is_remote(pattern):
        found = remote.find(pattern, allowed_roots)
    else:
        found = local.find(root, pattern, allowed_roots)
    if not found:
        where = remote.without_secrets(pattern) if remote.is_remote(pattern) else pattern
        raise SourceError("no file is there", where=where, fix="put the file there or mend path in penstock.yml")
    files = sorted((StoredFile(*one) for one in found), key=lambda file: file.location)
    for first, second in itertools.pairwise(files):
        if first.location == second.location:
            raise SourceError(
                "two files have the same name when written as text", where=first.location, fix="rename one"
            )
    return files
