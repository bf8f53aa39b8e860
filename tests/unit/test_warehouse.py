"""The warehouse's file: who only looks into it keeps no run from it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foundation.errors import LockedError
from foundation.warehouse import open_warehouse

HOLD = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(path: Path, seconds: float) -> "Iterator[subprocess.Popen[str]]":
    """A process that has the file open for so long from now, or until the block ends."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_open_elsewhere_for_a_moment_is_waited_for(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "warehouse.duckdb"
    with holder(path, 0.3), open_warehouse(path, read_only=read_only) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_file_that_stays_open_elsewhere_is_told_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with holder(path, 600) as process:
        began = time.monotonic()
        with pytest.raises(LockedError, match=f"the warehouse is open in process {process.pid}"), open_warehouse(path):
            pass
        assert 1.5 < time.monotonic() - began < 6
