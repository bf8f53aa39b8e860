"""A catalogue in partitions, by category: whole, one that was broken alone, and one that came in a new version."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from benchmarks.benches import Context
from benchmarks.catalogue import CATEGORIES, CHANGED, PRODUCTS, Catalogue, make_catalogue
from benchmarks.measure import ROOT, Command, Subject, SubjectError, Told, expect_rows
from benchmarks.penstock import summary
from benchmarks.projects import make_project
from benchmarks.publishes import DATABASE, new_database
from benchmarks.subjects import query_postgres

TITLE = "A catalogue of products in partitions, from CSV files to a published mart"
ORDER = 12
AGAINST = "penstock, all"
BROKEN = "camping"
PARTIAL = 4  # the exit code of a run of which a source failed


def subjects(context: Context) -> list[Subject]:
    """All partitions at once; one alone that failed the time before; one alone of which 1 % changed."""
    context.plan.say(f"data: a catalogue of {context.rows:,} products")
    made, dsn = make_catalogue(context.data_dir, context.rows), context.postgres()

    def all_of_them(folder: Path) -> Command:
        _make(folder, made)
        return _command(folder, dsn, is_new=True)

    def broken_before(folder: Path) -> Command:
        _make(folder, made)
        file = folder / "inbox" / BROKEN / PRODUCTS
        file.unlink()
        _run(_command(folder, dsn, is_new=True), PARTIAL)
        _expect(folder, dsn, made.rows - made.count(BROKEN), read=made.rows - made.count(BROKEN))
        os.link(made.folder / BROKEN / PRODUCTS, file)
        return _command(folder, dsn)

    def changed(folder: Path) -> Command:
        _make(folder, made)
        _run(_command(folder, dsn, is_new=True), 0)
        file = folder / "inbox" / CHANGED / PRODUCTS
        file.unlink()
        os.link(made.later, file)
        return _command(folder, dsn)

    def check(read: int, delta: dict[str, int]) -> Callable[[Path, str], Told]:
        return lambda folder, _output: _expect(folder, dsn, made.rows, read=read, **delta)

    one, other = made.count(BROKEN), made.count(CHANGED)
    parts = f"{len(CATEGORIES)} partitions, {context.concurrency} at a time"
    return [
        Subject(AGAINST, made.rows, all_of_them, check(made.rows, {"added": made.rows}), parts),
        Subject("penstock, failed", one, broken_before, check(one, {"added": one}), "the partition that failed before"),
        Subject(
            "penstock, changed",
            other,
            changed,
            check(other, {"added": 0, "changed": made.changed}),
            f"a new version of one partition, {made.changed:,} products changed",
        ),
    ]


def _make(folder: Path, made: Catalogue) -> None:
    partitions = {"by": "values", "values": list(CATEGORIES)}
    columns = ["id", "name", "category", "price", "changed_on"]
    source = {"type": "csv", "path": "inbox/{value}/*.csv", "columns": columns, "partitions": partitions}
    settings = {"sources": {"bench__products": source}, "outputs": {"products": {"key": ["id"]}}}
    make_project(folder, "products", settings)
    for category in CATEGORIES:
        (folder / "inbox" / category).mkdir(parents=True)
        os.link(made.folder / category / PRODUCTS, folder / "inbox" / category / PRODUCTS)


def _command(folder: Path, dsn: str, *, is_new: bool = False) -> Command:
    database = new_database(dsn) if is_new else psycopg.conninfo.make_conninfo(dsn, dbname=DATABASE)
    settings = {"DATABASE_URL": database, "PYTHONPATH": str(ROOT)}
    return Command((sys.executable, "-m", "operations.cli", "--root", str(folder), "run"), settings)


def _run(command: Command, code: int) -> None:
    """What comes before the run that is measured."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        command.argv, env={**environment, **command.environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        raise SubjectError(f"exit code {done.returncode} before what is measured: {done.stderr.strip()[-300:]}")


def _expect(folder: Path, dsn: str, rows: int, *, read: int, **delta: int) -> Told:
    """Raises SubjectError unless just these were read and published; the seconds of the stages otherwise."""
    found = summary(folder)
    expect_rows(found["totals"]["read"], read, "records read")
    for name, count in delta.items():
        expect_rows(found["marts"][0][name], count, f"rows {name}")
    database = psycopg.conninfo.make_conninfo(dsn, dbname=DATABASE)
    expect_rows(int(query_postgres(database, "select count(*) from products") or 0), rows)
    return Told(found["duration_seconds"])
