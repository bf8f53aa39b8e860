"""6. A disk that is full: the work folder, the temporary files, the exports, the target, the warehouse in Postgres."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from publishing import embedded
from tests.chaos import oracle
from tests.chaos.context import Context
from tests.chaos.engine import Round, World

TITLE = "a full disk"
KB = 1024
PLACES = {
    "work": (0, 200, 1_000, 2_000, 4_000, 8_000),
    "temporary": (0, 20, 60, 100),
    "exports": (0, 10, 20, 40),
    "target": (0, 100, 1_000, 2_000),
    "warehouse": (0, 100, 1_000, 4_000),
}
DISK_MB = {"work": 200, "temporary": 50, "exports": 50, "target": 300, "warehouse": 400}


def rounds(context: Context) -> Iterator[Round]:
    """Every place with each of several sizes left, in KB; needs the right to mount."""
    if os.geteuid() != 0:
        context.say("  left out: only root may make a small disk")
        return
    cases = [(place, left) for place, sizes in PLACES.items() for left in sizes]
    for place, left in context.chosen(cases, "disk", short=2):
        check = _server if place in ("target", "warehouse") else _folder
        yield Round(f"{place}, {left} KB left", check(context, place, left))


@contextmanager
def _disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir(exist_ok=True, mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path, left: int) -> Path:
    """Take all of a disk but so many KB."""
    ballast = folder / "ballast"
    size = max(0, shutil.disk_usage(folder).free - left * KB)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size))
    return ballast


def _folder(context: Context, place: str, left: int) -> list[str]:
    world = context.engine.base("duckdb", "incremental").clone()
    folder = {"work": world.work_dir, "temporary": world.work_dir / "tmp", "exports": world.root / "exports"}[place]
    held = world.root / "held"
    if folder.exists():
        folder.rename(held)
    else:
        held.mkdir()
    try:
        with _disk(folder, DISK_MB[place]):
            shutil.copytree(held, folder, dirs_exist_ok=True)
            ballast = _fill(folder, left)
            return _full_then_free(world, ballast)
    finally:
        world.remove()


def _full_then_free(world: World, ballast: Path) -> list[str]:
    before = oracle.published(world)
    done = world.run("run")
    problems = [] if done.code in (0, 7, 9) else [f"a full disk is told otherwise: {done.told}"]
    if "Traceback" in done.output:
        problems.append(f"a traceback: {done.told}")
    ballast.unlink()
    problems += oracle.is_whole(world, [before, oracle.expected(world)])
    return problems + oracle.rerun_and_check(world)


def _server(context: Context, place: str, left: int) -> list[str]:
    """The same with a Postgres server of its own on the small disk."""
    world = context.engine.base("postgres" if place == "warehouse" else "duckdb", "first").clone()
    folder = context.engine.folder / "small"
    shared = world.dsn, world.warehouse_url
    try:
        with _disk(folder, DISK_MB[place]):
            dsn = embedded.start(folder)
            try:
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute("create database test")
                address = psycopg.conninfo.make_conninfo(dsn, dbname="test")
                if place == "target":
                    world.dsn = address
                else:
                    world.warehouse_url = context.engine.url_of(address)
                ballast = _fill(folder, left)
                done = world.run("run")
                problems = [] if done.code in (0, 5, 6, 7, 9) else [f"a full disk is told otherwise: {done.told}"]
                if "Traceback" in done.output:
                    problems.append(f"a traceback: {done.told}")
                ballast.unlink()
                embedded.start(folder)  # it may have ended itself
                problems += oracle.is_whole(world, [None, oracle.expected(world)])
                return problems + oracle.rerun_and_check(world)
            finally:
                embedded.stop(folder)
    finally:
        world.dsn, world.warehouse_url = shared
        world.remove()
