"""The employee models on small warehouses whose raw tables are written by hand: `dbt build` as a user types it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import copy_tree

LINEAGE = "_location, _content_hash, _line, _load_id, _loaded_at"
CSV_COLUMNS = ("id", "name", "email", "age", "department", "salary", "join_date", "is_active", "metadata", "updated_at")
FIRST, SECOND = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
ANN = {
    "id": "1",
    "name": "ann lee",
    "email": "ann@example.com",
    "age": "30",
    "department": "eng",
    "salary": "$60,000",
    "join_date": "2020-02-29",
    "is_active": "yes",
}


@dataclass
class Raw:
    """The schema that ingestion writes, filled by hand."""

    connection: duckdb.DuckDBPyConnection
    loads: int = 0

    def create(self) -> "Raw":
        """The empty tables."""
        lineage = "_location varchar, _content_hash varchar, _line bigint, _load_id varchar, _loaded_at timestamptz"
        self.connection.execute("create schema raw")
        columns = ", ".join(f"{name} varchar" for name in CSV_COLUMNS)
        self.connection.execute(f"create table raw.hr__employees ({columns}, unknown varchar, {lineage})")
        for system in ("payroll", "directory", "talent"):
            self.connection.execute(f"create table raw.{system}__employees (record varchar, {lineage})")
        self.connection.execute(
            "create table raw.loads (load_id varchar, run_id varchar, source varchar, kind varchar, location varchar, "
            "content_hash varchar, start_bytes bigint, records_read bigint, records_loaded bigint, "
            "records_dead_lettered bigint, records_skipped bigint, loaded_at timestamptz, _dlt_load_id varchar)"
        )
        self.connection.execute("create table raw._dlt_loads (load_id varchar, status bigint)")
        return self

    def land_csv(
        self, *records: Mapping[str, str | None], loaded_at: datetime = FIRST, is_complete: bool = True
    ) -> None:
        """One file version of HR, its first record on line 2."""
        names = ", ".join(CSV_COLUMNS)
        rows = [[record.get(name) for name in CSV_COLUMNS] for record in records]
        self._land("hr__employees", "csv", names, rows, 2, loaded_at, is_complete)

    def land_json(self, source: str, *records: object, loaded_at: datetime = FIRST) -> None:
        """One file version or page of a source of JSON records; a text is taken as the JSON itself."""
        rows = [[record if isinstance(record, str) else json.dumps(record)] for record in records]
        self._land(source, "api" if source.startswith("talent") else "json", "record", rows, 1, loaded_at, True)

    def _land(
        self,
        source: str,
        kind: str,
        names: str,
        rows: Iterable[list[Any]],
        first_line: int,
        loaded_at: datetime,
        is_complete: bool,
    ) -> None:
        self.loads += 1
        load, content = f"load{self.loads}", f"hash{self.loads}"
        numbered = [
            [*row, f"{load}.file", content, line, load, loaded_at] for line, row in enumerate(rows, start=first_line)
        ]
        marks = ", ".join("?" * len(numbered[0]))
        self.connection.executemany(f"insert into raw.{source} ({names}, {LINEAGE}) values ({marks})", numbered)
        self.connection.execute(
            "insert into raw.loads values (?, 'run', ?, ?, ?, ?, 0, ?, ?, 0, 0, ?, ?)",
            [load, source, kind, f"{load}.file", content, len(numbered), len(numbered), loaded_at, f"package{load}"],
        )
        if is_complete:
            self.connection.execute("insert into raw._dlt_loads values (?, 0)", [f"package{load}"])


@dataclass
class Project:
    """The dbt project on a warehouse of its own."""

    root: Path
    warehouse: Path

    def build(self, **variables: object) -> subprocess.CompletedProcess[str]:
        """`dbt build` of everything but the unit tests, which say nothing about the data."""
        arguments = [
            "build",
            "--exclude-resource-type",
            "unit_test",
            "--vars",
            json.dumps({"as_of": "2024-06-30"} | variables),
        ]
        return self.dbt(*arguments, PENSTOCK_WAREHOUSE=str(self.warehouse))

    def dbt(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """dbt at the root of the project."""
        inherited = {name: value for name, value in os.environ.items() if name != "PENSTOCK_WAREHOUSE"}
        return subprocess.run(
            [sys.executable, "-m", "dbt.cli.main", *arguments],
            cwd=self.root,
            env=inherited | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the warehouse."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.execute(query).fetchall()

    def outcomes(self, *loads: str) -> list[tuple[Any, ...]]:
        """The load, line, key and outcome of every record of these loads."""
        return self.rows(
            "select load_id, line, record_key, outcome from marts.outcomes_employees "
            f"where load_id in ({', '.join(repr(load) for load in loads)}) "
            "order by cast(substr(load_id, 5) as integer), line"
        )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What dbt needs of the repository, as on a fresh clone."""
    return copy_tree(tmp_path_factory.mktemp("clone") / "pen stock")


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Project:
    """A project whose warehouse does not exist yet."""
    return Project(root, tmp_path / "work" / "warehouse.duckdb")


def land(project: Project, write: Callable[[Raw], None]) -> None:
    """Fill raw by a function."""
    is_new = not project.warehouse.exists()
    project.warehouse.parent.mkdir(exist_ok=True)
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        raw = Raw(connection)
        if is_new:
            raw.create()
        else:
            raw.loads = len(connection.execute("select * from raw.loads").fetchall())
        write(raw)


def records_of_every_kind(raw: Raw) -> None:
    """Loads 1 to 3."""
    raw.land_csv(
        ANN,
        ANN | {"id": "2", "name": "\t mary-ann  o'neil\u00a0", "email": "Mary@Example.com ", "department": "HR"},
        ANN | {"id": "3", "email": "three@example.com", "age": "30abc", "salary": "$1,2,3", "is_active": "maybe"},
        ANN | {"id": "4", "email": " MARY@example.com"},
        ANN | {"id": "n\x00", "name": "Nul\x00", "email": "nul@example.com"},
        {},
    )
    raw.land_json(
        "payroll__employees",
        {"id": 1, "name": "Ann Lee-McDonald", "email": "ann@example.com", "age": 31.0, "department": "Dev",
         "salary": 120000.5, "joinDate": "29 Feb 2020", "isActive": 1, "metadata": {"a": "x  y"},
         "updatedAt": "2024-03-01T00:00:00+02:00", "other": [1]},
        {"id": "5", "name": "Bo", "email": "bo@example.com", "age": 101, "department": "Legal", "salary": 0,
         "joinDate": "2024-07-01", "isActive": None, "metadata": "{}"},
    )  # fmt: skip
    raw.land_json("talent__employees", '{"id": "half a pair \\ud800"}')


def an_updated_holder(raw: Raw) -> None:
    """Loads 4 to 6: an address whose holder is updated after somebody else claimed it."""
    held = ANN | {"email": "held@example.com"}
    raw.land_csv(held | {"id": "holder"})
    raw.land_csv(held | {"id": "claimant"}, loaded_at=SECOND)
    raw.land_csv(held | {"id": "holder", "age": "31"}, loaded_at=datetime(2024, 1, 3, tzinfo=UTC))


def two_who_fall_back(raw: Raw) -> None:
    """Loads 7 to 9: two ids lose their new address and had the same one before."""
    old, lost = ANN | {"email": "old@example.com"}, ANN | {"email": "lost@example.com"}
    raw.land_csv(lost | {"id": "f0"})
    raw.land_csv(old | {"id": "f1"}, old | {"id": "f2"})
    raw.land_csv(lost | {"id": "f1"}, lost | {"id": "f2"}, loaded_at=SECOND)


def repeats(raw: Raw) -> None:
    """Loads 10 to 12: the same record in two files, the second written twice by a crash, and half a load."""
    record = ANN | {"id": "r1", "email": "r1@example.com"}
    raw.land_csv(record)
    raw.land_csv(record)
    raw.connection.execute("insert into raw.hr__employees select * from raw.hr__employees where _load_id = 'load11'")
    raw.land_csv(record | {"id": "r2", "email": "r2@example.com"}, is_complete=False)


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A warehouse that was built twice, with the same as-of date; for looking only."""
    project = Project(root, tmp_path_factory.mktemp("built") / "warehouse.duckdb")
    for write in (records_of_every_kind, an_updated_holder, two_who_fall_back, repeats):
        land(project, write)
    first = project.build()
    assert first.returncode == 0, first.stdout
    rows = project.rows("select * from marts.employees order by id")
    assert project.build().returncode == 0
    assert project.rows("select * from marts.employees order by id") == rows, "building again changed rows"
    return project


def test_dbt_build_works_on_a_fresh_clone_before_any_ingest(root: Path) -> None:
    fresh = Project(root, root / ".penstock" / "warehouse.duckdb")
    done = fresh.dbt("build")
    assert done.returncode == 0, done.stdout
    assert fresh.rows("select count(*) from marts.employees") == [(0,)]
    assert fresh.rows("select count(*) from information_schema.schemata where schema_name = 'raw'") == [(0,)], (
        "dlt takes a schema that it did not make for one that it filled"
    )


def test_employees_are_clean_typed_and_enriched(built: Project) -> None:
    assert built.rows("select * from marts.employees where id in ('1', '2', '3', '4', '5') order by id") == [
        (
            "1", "Ann Lee-McDonald", "ann@example.com", "Engineering", '{"a":"x  y"}', "Principal", "Senior",
            '["Python", "SQL", "Cloud"]', 31, Decimal("120000.50"), 4, 1, True, date(2020, 2, 29), FIRST,
        ),
        (
            "2", "Mary-Ann O'Neil", "mary@example.com", "HR", None, "Mid", None, None, 30, Decimal("60000.00"), 4, 1,
            True, date(2020, 2, 29), FIRST,
        ),
    ]  # fmt: skip
    assert built.rows("select * from marts.department_headcounts where department = 'HR'") == [
        ("HR", 1, 1, Decimal("60000.00"), Decimal("60000.00"))
    ]


def test_every_record_is_accepted_or_a_duplicate_or_rejected(built: Project) -> None:
    assert built.outcomes("load1", "load2", "load3") == [
        ("load1", 2, "1", "duplicate"),
        ("load1", 3, "2", "accepted"),
        ("load1", 4, "3", "rejected"),
        ("load1", 5, "4", "rejected"),
        ("load1", 6, "n\x00", "rejected"),
        ("load1", 7, None, "rejected"),
        ("load2", 1, "1", "accepted"),
        ("load2", 2, "5", "rejected"),
        ("load3", 1, None, "rejected"),
    ]


def test_a_rejected_record_keeps_its_texts_and_every_reason(built: Project) -> None:
    missing = ["is_active_missing", "name_missing", "email_missing", "age_missing", "department_missing"]
    missing += ["salary_missing", "join_date_missing"]
    assert built.rows(
        "select load_id, line, id, failed_rules from marts.rejected_employees "
        "where load_id in ('load1', 'load2', 'load3') order by load_id, line"
    ) == [
        ("load1", 4, "3", ["age_unreadable", "salary_unreadable", "is_active_unreadable"]),
        ("load1", 5, "4", ["email_not_unique"]),
        ("load1", 6, "n\x00", ["id_unreadable", "name_unreadable"]),
        ("load1", 7, None, ["id_missing", *missing]),
        (
            "load2", 2, "5",
            ["is_active_missing", "age_out_of_range", "department_unknown", "salary_out_of_range",
             "join_date_in_future", "metadata_not_an_object"],
        ),
        ("load3", 1, None, ["id_missing", *missing]),
    ]  # fmt: skip
    assert built.rows("select email, age, salary from marts.rejected_employees where id in ('3', '4') order by id") == [
        ("three@example.com", "30abc", "$1,2,3"),
        (" MARY@example.com", "30", "$60,000"),
    ]


def test_an_address_stays_with_its_holder_when_the_holder_is_updated(built: Project) -> None:
    assert built.outcomes("load4", "load5", "load6") == [
        ("load4", 2, "holder", "duplicate"),
        ("load5", 2, "claimant", "rejected"),
        ("load6", 2, "holder", "accepted"),
    ]


def test_two_ids_that_fall_back_to_one_address_do_not_both_reach_the_mart(built: Project) -> None:
    assert built.outcomes("load7", "load8", "load9") == [
        ("load7", 2, "f0", "accepted"),
        ("load8", 2, "f1", "accepted"),
        ("load8", 3, "f2", "rejected"),
        ("load9", 2, "f1", "rejected"),
        ("load9", 3, "f2", "rejected"),
    ]


def test_a_record_that_a_crash_wrote_twice_counts_once_and_one_of_half_a_load_not_at_all(built: Project) -> None:
    assert built.outcomes("load10", "load11", "load12") == [
        ("load10", 2, "r1", "duplicate"),
        ("load11", 2, "r1", "accepted"),
    ]


def test_a_later_load_changes_only_the_employees_in_it(project: Project) -> None:
    land(project, lambda raw: raw.land_csv(ANN, ANN | {"id": "2", "email": "two@example.com"}))
    assert project.build().returncode == 0
    land(project, lambda raw: raw.land_csv(ANN | {"age": "31"}, loaded_at=SECOND))
    assert project.build().returncode == 0
    assert project.rows("select id, age, processed_at from marts.employees order by id") == [
        ("1", 31, SECOND),
        ("2", 30, FIRST),
    ]


def test_without_normalization_texts_stay_as_they_are(project: Project) -> None:
    plain = ANN | {"name": "ann  lee", "department": "Sales", "salary": "60000", "is_active": "true"}
    land(project, lambda raw: raw.land_csv(plain, ANN | {"id": "2", "email": "two@example.com"}))
    done = project.build(enable_normalization=False)
    assert done.returncode == 0, done.stdout
    assert project.rows("select id, name from marts.employees") == [("1", "ann  lee")]
    assert project.rows("select failed_rules from marts.rejected_employees") == [
        (["salary_unreadable", "is_active_unreadable", "department_unknown"],)
    ]


def test_without_validation_only_what_the_table_cannot_hold_is_rejected(project: Project) -> None:
    broken = {"id": "2", "email": "x", "age": "7", "department": "Legal", "salary": "0", "is_active": "no"}
    land(project, lambda raw: raw.land_csv(ANN, broken, ANN | {"id": "3", "age": "30abc"}, ANN | {"id": "4"}))
    done = project.build(enable_validation=False)
    assert done.returncode == 0, done.stdout
    assert project.rows("select id, name, age, department from marts.employees order by id") == [
        ("1", "Ann Lee", 30, "Engineering"),
        ("2", None, 7, "Legal"),
    ]
    assert project.rows("select failed_rules from marts.rejected_employees order by id") == [
        (["age_unreadable", "email_not_unique"],),
        (["email_not_unique"],),
    ]


def test_without_deduplication_two_versions_of_an_id_fail_the_key_test_of_the_mart(project: Project) -> None:
    land(project, lambda raw: raw.land_csv(ANN, ANN | {"age": "31"}))
    done = project.build(enable_deduplication=False)
    assert done.returncode == 1
    assert "unique_employees_id" in done.stdout
    assert [outcome for *_, outcome in project.outcomes("load1")] == ["accepted", "accepted"]


def test_without_enrichment_its_columns_are_null(project: Project) -> None:
    land(project, lambda raw: raw.land_csv(ANN))
    done = project.build(enable_enrichment=False)
    assert done.returncode == 0, done.stdout
    assert project.rows(
        "select id, experience_years, salary_grade, tech_level, skills, processed_at, enrichment_version "
        "from marts.employees"
    ) == [("1", None, None, None, None, None, None)]


def test_an_as_of_that_is_no_day_is_refused(project: Project) -> None:
    done = project.build(as_of="30 June 2024")
    assert done.returncode != 0
    assert "the variable as_of is '30 June 2024'; write it as yyyy-MM-dd" in done.stdout
