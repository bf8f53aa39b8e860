"""The promises of the benchmarks of publishing: marts, the rival's table, what a reader notices, what is written."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from benchmarks import publisher, rivals
from benchmarks.benches.publish_readers import LONGEST_WAIT_S
from benchmarks.marts import make_marts, show_version, sums
from benchmarks.measure import Command, Plan, Subject, SubjectError, Told, measure
from benchmarks.publishes import check_readers
from tests.conftest import ROOT, create_database

ROWS = 3_000
SHARE = 0.1


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The cache of generated data, where the server can read it: under root it is another user."""
    with tempfile.TemporaryDirectory(prefix="penstock-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _copy(folder: Path, into: Path) -> str:
    return shutil.copy(make_marts(folder, ROWS, SHARE).warehouse, into / "warehouse.duckdb")


def test_two_versions_differ_by_the_rows_that_are_counted(folder: Path) -> None:
    made = make_marts(folder, ROWS, SHARE)
    with duckdb.connect(made.warehouse, read_only=True) as connection:
        row = connection.execute(
            "select count(*) filter (where a.id is null), count(*) filter (where b.id is null),"
            " count(*) filter (where b.salary = a.salary + 1), count(*) filter (where b.salary = a.salary),"
            " count(*) filter (where (a.name, a.email, a.metadata) is distinct from (b.name, b.email, b.metadata)"
            " and a.id is not null and b.id is not null)"
            " from versions.employees_0 as a full join versions.employees_1 as b using (id)"
        ).fetchone()
    same = ROWS - made.changed - made.removed
    assert row == (made.added, made.removed, made.changed, same, 0)
    assert made.added == 30
    assert made.changed == pytest.approx(0.08 * ROWS, rel=0.3)
    assert made.removed == pytest.approx(0.01 * ROWS, rel=0.7)


def test_marts_are_made_once_and_are_the_same_for_a_seed(folder: Path, tmp_path: Path) -> None:
    made = make_marts(folder, ROWS, SHARE)
    before = made.csv.stat().st_mtime_ns
    assert make_marts(folder, ROWS, SHARE) == made
    assert made.csv.stat().st_mtime_ns == before
    assert sorted(make_marts(tmp_path, ROWS, SHARE).csv.read_text().splitlines()) == sorted(
        made.csv.read_text().splitlines()
    )
    assert make_marts(tmp_path, ROWS, SHARE, seed=1).csv.read_bytes() != made.csv.read_bytes()


def test_marts_that_make_no_sense_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="share of 2"):
        make_marts(folder, 10, 2)


def _table(dsn: str) -> dict[str, Any]:
    queries = {
        "columns": "select attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum"
        " where attrelid = 'employees'::regclass and attnum > 0 order by attnum",
        "constraints": "select conname, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid = 'employees'::regclass order by 1",
        "indexes": "select indexdef from pg_indexes where schemaname = 'public' and tablename = 'employees' order by 1",
        "rows": "select to_jsonb(employees) - 'created_at' - 'updated_at' from employees order by id",
    }
    with psycopg.connect(dsn) as connection:
        return {name: connection.execute(query.encode()).fetchall() for name, query in queries.items()}


def test_the_rival_makes_the_table_that_is_published(folder: Path, tmp_path: Path, postgres: str) -> None:
    made = make_marts(folder, ROWS, SHARE)
    published, copied = create_database(postgres), create_database(postgres)
    publisher.publish(_copy(folder, tmp_path), published, "one")
    rivals.postgres_copy(str(made.csv), copied)
    assert _table(published) == _table(copied)
    assert len(_table(copied)["rows"]) == ROWS


def test_what_a_publish_tells_is_what_changed(folder: Path, tmp_path: Path, postgres: str) -> None:
    made, warehouse, dsn = make_marts(folder, ROWS, SHARE), _copy(folder, tmp_path), create_database(postgres)
    first = publisher.publish(warehouse, dsn, "one")
    again = publisher.publish(warehouse, dsn, "one")
    show_version(Path(warehouse), 1)
    change = publisher.publish(warehouse, dsn, "one")
    assert [told["is_new"] for told in (first, again, change)] == [True, False, True]
    assert [told["marts"]["employees"]["rows_added"] for told in (first, again, change)] == [ROWS, 0, made.added]
    delta = change["marts"]["employees"]
    found = (delta["rows_changed"], delta["rows_removed"], delta["rows_total"])
    assert found == (made.changed, made.removed, made.rows_after)


class _Reader:
    """The reader as its own process, for as long as a `with` lasts."""

    def __init__(self, dsn: str, expected: list[list[str]]) -> None:
        self._arguments = [sys.executable, "-m", "benchmarks.publisher", "read", dsn, json.dumps(expected)]
        self.found: dict[str, Any] = {}

    def __enter__(self) -> "_Reader":
        self._process = subprocess.Popen(
            self._arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "reading\n"
        return self

    def __exit__(self, *_: object) -> None:
        answer, _error = self._process.communicate(timeout=30)
        self.found = json.loads(answer.splitlines()[-1])


def test_a_reader_notices_a_mixture_an_error_and_a_wait(folder: Path, tmp_path: Path, postgres: str) -> None:
    warehouse, dsn = _copy(folder, tmp_path), create_database(postgres)
    publisher.publish(warehouse, dsn, "two")
    expected = sums(Path(warehouse))
    with _Reader(dsn, expected) as untouched:
        time.sleep(0.3)
    assert untouched.found["reads"] == untouched.found["of_each_version"][0] > 0
    with _Reader(dsn, expected) as bothered, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update payslips set salary = salary + 1")
        time.sleep(0.5)
        with connection.transaction():
            connection.execute("lock table employees")
            time.sleep(1.2)
        connection.execute("alter table employees rename to staff")
        time.sleep(0.3)
    assert bothered.found["mixed"] > 0
    assert bothered.found["longest_wait_s"] > 1
    assert bothered.found["errors"] > 0
    assert "employees" in bothered.found["first_error"]


SOUND = {"releases": 4, "reads": 9, "longest_wait_s": 0.1, "errors": 0, "mixed": 0, "of_each_version": [4, 5]}
SOUND["first_error"] = ""


def test_readers_that_met_nothing_are_told_in_words() -> None:
    assert check_readers(SOUND, 4, LONGEST_WAIT_S) == "9 reads, the longest 0.10 s, 0 errors, 0 mixed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixed": 1}, "1 mixed"),
        ({"errors": 2, "first_error": "gone"}, "2 errors, 0 mixed; gone"),
        ({"longest_wait_s": 1.01}, "the longest 1.01 s"),
        ({"of_each_version": [9, 0]}, "only one version"),
        ({"releases": 3}, "3 releases instead of 4"),
    ],
)
def test_readers_that_met_more_are_a_failure(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        check_readers(SOUND | change, 4, LONGEST_WAIT_S)


def test_what_a_run_says_of_itself_stands_beside_its_subject(tmp_path: Path) -> None:
    command = Command((sys.executable, "-c", "pass"))
    subject = Subject("one", 10, lambda _: command, lambda _folder, _output: Told(0.5, "seen"), "always")
    (result,) = measure("a bench", [subject], "one", Plan(1, False, 60, tmp_path, lambda _: None))
    assert (result.own_s, result.note) == (0.5, "always; seen")


def _bench(folder: Path, out: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks", "--runs", "1", "--no-warm-up", *arguments]
    done = subprocess.run(
        [*command, "--data-dir", str(folder), "--out", str(out)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return list(json.loads((out / "latest.json").read_text()))


def test_each_bench_of_publishing_is_measured_and_checked(folder: Path, tmp_path: Path) -> None:
    names = ("publish_first", "publish_change", "publish_nothing", "publish_readers")
    only = [option for name in names for option in ("--only", name)]
    found = _bench(folder, tmp_path, "--rows", str(ROWS), *only)
    assert [(one["bench"], one["subject"], one["error"]) for one in found] == [
        ("publish_first", "penstock", ""),
        ("publish_first", "copy", ""),
        ("publish_change", "penstock", ""),
        ("publish_change", "penstock, first", ""),
        ("publish_nothing", "penstock", ""),
        ("publish_nothing", "connect", ""),
        ("publish_readers", "penstock", ""),
        ("publish_readers", "penstock, unread", ""),
    ]
    assert all(one["rows"] == ROWS and one["ratio"] > 0 and one["peak_mb"] > 20 for one in found)
    notes = {(one["bench"], one["subject"]): one["note"] for one in found}
    assert "Postgres was at work for" in notes["publish_nothing", "penstock"]
    assert "0 errors, 0 mixed" in notes["publish_readers", "penstock"]
    assert "reads" not in notes["publish_readers", "penstock, unread"]


def test_a_whole_run_gives_every_record_its_outcome(folder: Path, tmp_path: Path) -> None:
    (found,) = _bench(folder, tmp_path, "--rows", str(ROWS), "--only", "whole_run")
    assert (found["subject"], found["rows"], found["error"]) == ("penstock", ROWS, "")
    assert found["ratio"] is None  # sling is not installed there
    assert found["own_s"] < found["median_s"]
    assert "publish" in found["note"]


def test_a_partition_that_failed_before_is_published_alone(folder: Path, tmp_path: Path) -> None:
    found = _bench(folder, tmp_path, "--rows", "1600", "--only", "products", "--subject", "penstock, failed")
    assert [(one["subject"], one["rows"], one["error"]) for one in found] == [
        ("penstock, all", 1600, ""),
        ("penstock, failed", 100, ""),
    ]
