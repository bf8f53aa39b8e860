"""`penstock run` from a CSV file to a published mart, beside a tool that copies the file into Postgres."""

import shutil
import sys
from pathlib import Path

import psycopg
import yaml

from benchmarks.benches import Context
from benchmarks.benches.csv_to_raw import sling
from benchmarks.data import Dataset
from benchmarks.measure import ROOT, Command, Subject, Told, expect_rows
from benchmarks.penstock import SOURCE, check_run, file_source
from benchmarks.publishes import DATABASE, new_database
from benchmarks.subjects import query_postgres

TITLE = "From a CSV file to a published mart in Postgres"
ORDER = 11
AGAINST = "sling"
PROJECT = ROOT / "benchmarks" / "templates" / "whole_run"

COLUMNS = (
    "id", "name", "email", "age", "department", "salary", "join_date", "is_active", "metadata", "updated_at",
)  # fmt: skip

# What every project needs; models and suites of the bench come on top.
_NEEDED = (
    "dbt_project.yml",
    "profiles.yml",
    "dbt_project/macros",
    "dbt_project/plugins",
    "dbt_project/tests/generic",
    "dbt_project/models/staging/ingestion",
    *(f"expectations/{name}.py" for name in ("__init__", "checks", "duckdb_engine", "gates", "history", "measure")),
    *(f"expectations/suites/{name}.py" for name in ("__init__", "_marts", "_raw", "loads")),
)


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
        make_project(folder, dataset)
        # The server is the one that sling writes into, and code that the project has no copy of is the measured one.
        settings = {"DATABASE_URL": new_database(dsn), "PYTHONPATH": str(ROOT)}
        return Command((sys.executable, "-m", "operations.cli", "--root", str(folder), "run"), settings)

    def check(folder: Path, _output: str) -> Told:
        stages = check_run(folder, dataset)
        database = psycopg.conninfo.make_conninfo(dsn, dbname=DATABASE)
        expect_rows(int(query_postgres(database, "select count(*) from employees") or 0), accepted)
        return Told(sum(stages.values()), ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items()))

    return Subject("penstock", dataset.rows, prepare, check, "the server apart")


def make_project(folder: Path, dataset: Dataset) -> None:
    """A project with one source, its models and its gates."""
    for name in _NEEDED:
        original, copy = ROOT / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if original.is_dir():
            shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(original, copy)
    source = {**file_source(dataset), "columns": list(COLUMNS)}
    outputs = {"employees": {"key": ["id"], "json_columns": ["metadata"]}}
    document = yaml.safe_dump({"sources": {SOURCE: source}, "outputs": outputs}, sort_keys=False)
    (folder / "penstock.yml").write_text(document, encoding="utf-8")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
