"""Penstock as a subject, driven from outside: a project folder with one source, and its command as a new process."""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from benchmarks.data import Dataset
from benchmarks.measure import Command, Subject, SubjectError, expect_rows, run_command

SOURCE = "bench__employees"


def penstock(
    dataset: Dataset,
    source: Mapping[str, Any] | None = None,
    *,
    name: str = "penstock",
    settings: Mapping[str, str] | None = None,
    note: str = "",
) -> Subject:
    """`penstock ingest` of a dataset, read as `source` says or as a file, with `settings` in the environment."""
    described = source or file_source(dataset)

    def prepare(folder: Path) -> Command:
        return make_project(folder, described, settings)

    def check(folder: Path, _output: str) -> float | None:
        check_raw(folder, dataset)
        return ingest_seconds(folder)

    return Subject(name, dataset.rows, prepare, check, note)


def nothing_new(dataset: Dataset, time_limit: float) -> Subject:
    """`penstock ingest` once more, when everything has been read before."""

    def prepare(folder: Path) -> Command:
        command = make_project(folder, file_source(dataset))
        run_command(command, folder, time_limit)
        check_raw(folder, dataset)
        return command

    def check(folder: Path, _output: str) -> float | None:
        expect_rows(summary(folder)["totals"]["loaded"], 0)
        return ingest_seconds(folder)

    return Subject("penstock, again", dataset.rows, prepare, check, "a second run, which finds nothing new")


def file_source(dataset: Dataset) -> dict[str, Any]:
    """The source of penstock.yml that reads the dataset's file."""
    return {"type": "csv" if dataset.format == "csv" else "json", "path": str(dataset.path)}


def make_project(folder: Path, source: Mapping[str, Any], settings: Mapping[str, str] | None = None) -> Command:
    """A project with nothing but the source, and the command that ingests it."""
    document = yaml.safe_dump({"sources": {SOURCE: dict(source)}}, allow_unicode=True, sort_keys=False)
    (folder / "penstock.yml").write_text(document, encoding="utf-8")
    return Command((sys.executable, "-m", "operations.cli", "--root", str(folder), "ingest"), settings or {})


def check_raw(folder: Path, dataset: Dataset) -> None:
    """Raises SubjectError unless every record of the dataset is in raw or in the dead letters, and said to be."""
    totals = summary(folder)["totals"]
    expect_rows(totals["loaded"], dataset.loadable, "rows said to be loaded")
    expect_rows(totals["dead_lettered"], dataset.dead_letters, "dead letters said to be there")
    expect_rows(_one(folder, f"select count(*) from raw.{SOURCE}"), dataset.loadable, "rows in raw")
    if dataset.dead_letters:
        expect_rows(_one(folder, "select count(*) from raw.dead_letters"), dataset.dead_letters, "dead letters")


def check_run(folder: Path, dataset: Dataset) -> dict[str, float]:
    """The seconds of each stage of a whole run. Raises SubjectError unless every record has the outcome it should."""
    check_raw(folder, dataset)
    totals = summary(folder)["totals"]
    rejected = sum(dataset.invalid.values())
    expect_rows(totals["rejected"], rejected, "records said to be rejected")
    expect_rows(totals["published"], dataset.loadable - rejected, "records said to be published")
    found = _one(
        folder,
        "select list([stage, epoch(finished_at - started_at)::varchar] order by started_at) from ops.steps",
    )
    stages: dict[str, float] = {}
    for stage, seconds in found:
        stages[stage] = stages.get(stage, 0.0) + float(seconds)
    return stages


def count_written(folder: Path) -> int:
    """Rows that the run wrote into raw: records, dead letters, and what it notes of each load."""
    tables = (SOURCE, "dead_letters", "loads")
    return sum(int(_one(folder, f"select count(*) from raw.{table}")) for table in tables)


def ingest_seconds(folder: Path) -> float | None:
    """How long the stage took by Penstock's own ledger: without the start of the command and its report."""
    found = _one(folder, "select max_by([started_at, finished_at], started_at) from ops.steps where stage = 'ingest'")
    if not found:
        return None
    started, finished = found
    assert isinstance(started, datetime)
    return float((finished - started).total_seconds())


def summary(folder: Path) -> dict[str, Any]:
    """What the last run in a project said of itself. Raises SubjectError where there is none."""
    try:
        return dict(json.loads((folder / ".penstock" / "last_run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SubjectError(f"no summary of the run: {error}") from None


def _one(folder: Path, query: str) -> Any:
    try:
        with duckdb.connect(folder / ".penstock" / "warehouse.duckdb", read_only=True) as connection:
            row = connection.execute(query).fetchone()
    except duckdb.Error as error:
        raise SubjectError(f"the warehouse does not tell: {error}") from None
    return row[0] if row else None
