"""`penstock run` from a CSV file to a published mart, beside a tool that copies the file into Postgres."""

import sys
from pathlib import Path

import psycopg

from benchmarks.benches import Context
from benchmarks.benches.csv_to_raw import sling
from benchmarks.data import Dataset
from benchmarks.measure import ROOT, Command, Subject, Told, expect_rows
from benchmarks.penstock import SOURCE, check_run, file_source
from benchmarks.projects import make_project
from benchmarks.publishes import DATABASE, new_database
from benchmarks.subjects import query_postgres

TITLE = "From a CSV file to a published mart in Postgres"
ORDER = 11
AGAINST = "sling"

COLUMNS = (
    "id", "name", "email", "age", "department", "salary", "join_date", "is_active", "metadata", "updated_at",
)  # fmt: skip


def subjects(context: Context) -> list[Subject]:
    """Penstock with models, tests and gates; sling, which copies the text into a table."""
    dataset, dsn = context.dataset("csv", context.rows), context.postgres()
    found = [_penstock(dataset, dsn)]
    if context.peers.program(AGAINST).exists():
        found.append(sling(context, dataset, dsn))
    else:
        context.plan.say("whole_run: sling is left out, as it is not installed; --with-peers installs it")
    return found


def _penstock(dataset: Dataset, dsn: str) -> Subject:
    accepted = dataset.rows - sum(dataset.invalid.values())

    def prepare(folder: Path) -> Command:
        make_folder(folder, dataset)
        # The server is the one that sling writes into, and code that the project has no copy of is the measured one.
        settings = {"DATABASE_URL": new_database(dsn), "PYTHONPATH": str(ROOT)}
        return Command((sys.executable, "-m", "operations.cli", "--root", str(folder), "run"), settings)

    def check(folder: Path, _output: str) -> Told:
        stages = check_run(folder, dataset)
        database = psycopg.conninfo.make_conninfo(dsn, dbname=DATABASE)
        expect_rows(int(query_postgres(database, "select count(*) from employees") or 0), accepted)
        return Told(sum(stages.values()), ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items()))

    return Subject("penstock", dataset.rows, prepare, check, "the server apart")


def make_folder(folder: Path, dataset: Dataset) -> None:
    """A project with one source, its models and its gates."""
    source = {**file_source(dataset), "columns": list(COLUMNS)}
    outputs = {"employees": {"key": ["id"], "json_columns": ["metadata"]}}
    make_project(folder, "whole_run", {"sources": {SOURCE: source}, "outputs": outputs})
