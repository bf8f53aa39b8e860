"""A disk that fills up: one clear line, nothing half-published, and the next run goes on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Project


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, to be made larger by `_resize`."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may make a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _resize(folder: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(folder)], check=True)


def test_each_size_that_is_too_small_is_told_and_made_good(
    small_disk: Path, fresh_project: Project, first_run: Project
) -> None:
    for megabytes in (1, 3, 6):
        _resize(small_disk, megabytes)
        done = fresh_project.run("run", WORK_DIR=str(small_disk / "work"))
        assert done.returncode == 9, f"{megabytes} MB: {done.stdout}{done.stderr}"
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert fresh_project.query("select count(*) from pg_tables where schemaname = 'public'") == [(0,)]
    _resize(small_disk, 300)
    done = fresh_project.run("run", WORK_DIR=str(small_disk / "work"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert fresh_project.published() == first_run.published()
