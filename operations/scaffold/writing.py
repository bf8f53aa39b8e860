"""Files written all together or not at all."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from foundation.errors import ConfigError, StorageError


def write_all(root: Path, new: Mapping[str, str], edited: Mapping[str, tuple[bytes, bytes]]) -> None:
    """Write new files and change others, given by path below `root`; `edited` has what was there and what shall be.

    All of it is on the disk before the first name appears, and what has appeared is taken back when anything fails.
    Raises ConfigError where a file is there or has changed meanwhile, StorageError where the disk does not take it.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=".penstock-new-", dir=root))
    except OSError as error:
        raise _refused(error, root) from error
    undo = _Undo(root)
    try:
        ready = {path: _put(folder / f"new-{number}", text.encode()) for number, (path, text) in enumerate(new.items())}
        changes = {}
        for number, (path, (before, after)) in enumerate(edited.items()):
            changes[path] = _put(folder / f"changed-{number}", after), _put(folder / f"kept-{number}", before)
            shutil.copymode(root / path, changes[path][0])
            shutil.copymode(root / path, changes[path][1])
        for path, file in ready.items():
            undo.make_folders((root / path).parent)
            _appear(file, root / path)
            undo.files.append(root / path)
        for path, (file, kept) in changes.items():
            if (root / path).read_bytes() != edited[path][0]:
                raise ConfigError(f"{path} was changed meanwhile", fix="run it again")
            undo.kept[root / path] = kept
            file.replace(root / path)
    except FileExistsError as error:
        undo.all()
        raise ConfigError(f"{error.filename2 or error.filename} is there already", fix="nothing was written") from None
    except OSError as error:
        undo.all()
        raise _refused(error, root) from error
    except BaseException:
        undo.all()
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Undo:
    """What has appeared so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[Path] = []
        self.folders: list[Path] = []
        self.kept: dict[Path, Path] = {}

    def make_folders(self, folder: Path) -> None:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir()
            self.folders.append(one)

    def all(self) -> None:
        for path, kept in self.kept.items():
            kept.replace(path)
        for path in self.files:
            path.unlink(missing_ok=True)
        for folder in reversed(self.folders):
            folder.rmdir()


def _put(file: Path, data: bytes) -> Path:
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return file


def _appear(file: Path, path: Path) -> None:
    """Give a file its name, which must be free. Raises FileExistsError."""
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        stream = path.open("xb")
        try:
            with stream:
                stream.write(file.read_bytes())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _refused(error: OSError, root: Path) -> StorageError:
    return StorageError(
        f"nothing was written: {error.strerror or error}",
        where=str(error.filename or root),
        fix="make room or mend the permissions, then run it again",
    )
