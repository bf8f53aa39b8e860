"""The lock of the work folder tells who has it, and where it cannot be had."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from foundation.errors import LockedError, StorageError
from operations.lock import run_lock


def test_a_run_that_holds_the_lock_is_told_and_a_command_that_is_no_run_as_well(tmp_path: Path) -> None:
    for holder, told in (
        ({"run_id": "r1"}, f"another run is going: run r1, process {os.getpid()}"),
        ({"command": "docs"}, f"another command is going: penstock docs, process {os.getpid()}"),
    ):
        with run_lock(tmp_path, **holder), pytest.raises(LockedError, match=f"^{told}"), run_lock(tmp_path, "r2"):
            pass


def test_a_holder_that_goes_on_as_another_run_is_told_as_that(tmp_path: Path) -> None:
    with run_lock(tmp_path, "r1") as name:
        name("r0")
        with pytest.raises(LockedError, match="another run is going: run r0,"), run_lock(tmp_path, "r2"):
            pass


def test_a_file_system_without_locks_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="the work folder cannot be locked: No locks available"):
        run_lock(tmp_path, "r1").__enter__()
