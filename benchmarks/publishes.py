"""Publishing as a subject: marts of a warehouse, a database for them, and what a publish told of itself."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.benches import Context
from benchmarks.marts import Marts, make_marts, show_version
from benchmarks.measure import Command, Subject, SubjectError, Told, expect_rows, run_command
from benchmarks.subjects import query_postgres

SHARE = 0.01
DATABASE = "bench"
RELEASED = "bench_released"


def marts(context: Context, rows: int, share: float = SHARE) -> Marts:
    """Generated marts, from the cache where they are there."""
    context.plan.say(f"data: {rows:,} rows of a mart")
    return make_marts(context.data_dir, rows, share)


def publisher_command(name: str, *arguments: str) -> Command:
    """A function of benchmarks.publisher as a process."""
    return Command((sys.executable, "-m", "benchmarks.publisher", name, *arguments))


def new_database(dsn: str, name: str = DATABASE, template: str | None = None) -> str:
    """An empty database, or a copy of another one, in place of what had that name; its connection string."""
    query_postgres(dsn, f"drop database if exists {name} with (force)")
    query_postgres(dsn, f"create database {name}" + (f" template {template} strategy file_copy" if template else ""))
    query_postgres(dsn, "checkpoint")
    return psycopg.conninfo.make_conninfo(dsn, dbname=name)


def told(output: str) -> dict[str, Any]:
    """What a command said in its last line."""
    return dict(json.loads(output.strip().splitlines()[-1]))


def first_publish(made: Marts, dsn: str, name: str) -> Subject:
    """A publish of all rows into an empty database."""

    def prepare(folder: Path) -> Command:
        warehouse = Path(shutil.copy(made.warehouse, folder))
        return publisher_command("publish", str(warehouse), new_database(dsn), "one")

    def check(_folder: Path, output: str) -> Told:
        return check_publish(dsn, output, added=made.rows, total=made.rows)

    return Subject(name, made.rows, prepare, check, "all rows, into an empty database")


def check_publish(dsn: str, output: str, *, added: int = 0, changed: int = 0, removed: int = 0, total: int) -> Told:
    """Raises SubjectError unless just this was published, by what was said and by what the table has."""
    found = told(output)
    delta = found["marts"]["employees"]
    expect_rows(delta["rows_added"], added, "rows added")
    expect_rows(delta["rows_changed"], changed, "rows changed")
    expect_rows(delta["rows_removed"], removed, "rows removed")
    database = psycopg.conninfo.make_conninfo(dsn, dbname=DATABASE)
    worked = postgres_seconds(dsn)
    expect_rows(int(query_postgres(database, "select count(*) from employees") or 0), total)
    return Told(found["seconds"], f"Postgres was at work for {worked:.2f} s")


def postgres_seconds(dsn: str) -> float:
    """How long sessions of the database were in a statement, by the server; waits for rows to come are in it."""
    return (
        float(query_postgres(dsn, f"select active_time from pg_stat_database where datname = '{DATABASE}'") or 0) / 1e3
    )


@dataclass(frozen=True)
class Released:
    """A warehouse whose version 0 was published, and the database that shows it; each run gets copies of both."""

    made: Marts
    dsn: str
    folder: Path
    time_limit: float

    def prepare(self, folder: Path, version: int) -> Command:
        """A publish of a version where version 0 stands."""
        if not self.folder.exists():
            self._publish()
        warehouse = Path(shutil.copy(self.folder / self.made.warehouse.name, folder))
        show_version(warehouse, version)
        return publisher_command("publish", str(warehouse), new_database(self.dsn, DATABASE, RELEASED), "one")

    def _publish(self) -> None:
        self.folder.mkdir()
        warehouse = Path(shutil.copy(self.made.warehouse, self.folder))
        database = new_database(self.dsn, RELEASED)
        run_command(publisher_command("publish", str(warehouse), database, "one"), self.folder, self.time_limit)


def released(context: Context, made: Marts) -> Released:
    """Made with the first run that needs it, and gone after the bench, as its server is."""
    found = Released(made, context.postgres(), context.plan.folder / "released", context.plan.time_limit)
    context.stack.callback(shutil.rmtree, found.folder, ignore_errors=True)
    return found


def check_readers(found: Mapping[str, Any], publishes: int, longest_wait: float) -> str:
    """What readers met, in words. Raises SubjectError if it was not whole releases only, in time, without errors."""
    expect_rows(found["releases"], publishes, "releases")
    told_of = (
        f"{found['reads']:,} reads, the longest {found['longest_wait_s']:.2f} s, {found['errors']} errors,"
        f" {found['mixed']} mixed"
    )
    is_seen = all(found["of_each_version"])
    if found["errors"] or found["mixed"] or found["longest_wait_s"] > longest_wait or not is_seen:
        why = found["first_error"] or ("" if is_seen else "only one version was ever seen")
        raise SubjectError(f"readers met: {told_of}{'; ' if why else ''}{why}")
    return told_of
