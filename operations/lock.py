"""One run at a time: a file lock in the work folder, which the system frees when its holder dies."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.errors import LockedError, StorageError


@contextmanager
def run_lock(work_dir: Path, run_id: str | None = None, *, command: str = "") -> Iterator[Callable[[str], None]]:
    """Hold the lock of `work_dir` for a run, or for a command that is none; gives what names another run as its holder.

    Raises LockedError at once when another run or command has it, StorageError where the folder cannot have one.
    """
    file = work_dir / "run.lock"
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(
            f"the work folder cannot be written: {error.strerror}", where=str(work_dir), fix="mend it or set WORK_DIR"
        ) from error

    def note(**holder: str) -> None:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), **holder}).encode(), 0)

    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(_holder(file), where=str(file), fix="wait for it to end, then run again") from error
        except OSError as error:
            raise StorageError(
                f"the work folder cannot be locked: {error.strerror}",
                where=str(file),
                fix="set WORK_DIR to a folder on a file system that has locks, such as a local disk",
            ) from error
        note(**({"command": command} if run_id is None else {"run_id": run_id}))
        yield lambda run_id: note(run_id=run_id)
    finally:
        os.close(descriptor)


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text())
        if command := holder.get("command"):
            return f"another command is going: penstock {command}, process {holder['pid']}"
        return f"another run is going: run {holder['run_id']}, process {holder['pid']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another run is going: its process has not said which"
