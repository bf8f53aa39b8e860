"""One run at a time: a file lock in the work folder, which the system frees when its holder dies."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.errors import LockedError, StorageError


@contextmanager
def run_lock(work_dir: Path, run_id: str) -> Iterator[Callable[[str], None]]:
    """Hold the lock of `work_dir`, and give what names another run as its holder.

    Raises LockedError at once when another run has it.
    """
    file = work_dir / "run.lock"
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(
            f"the work folder cannot be written: {error.strerror}", where=str(work_dir), fix="mend it or set WORK_DIR"
        ) from error

    def name(run_id: str) -> None:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "run_id": run_id}).encode(), 0)

    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(
                f"another run is going: {_holder(file)}", where=str(file), fix="wait for it to end, then run again"
            ) from error
        name(run_id)
        yield name
    finally:
        os.close(descriptor)


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text())
        return f"run {holder['run_id']}, process {holder['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process has not said which"
