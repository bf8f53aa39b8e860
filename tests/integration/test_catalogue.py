"""The catalogue of data sets: hundreds of records that are fetched one by one, each failing alone."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from psycopg.conninfo import conninfo_to_dict

from expectations.gates import run_gate
from foundation.warehouse import PostgresWarehouse, Warehouse, open_warehouse
from tests.conftest import ROOT, Project, copy_tree, create_database
from tests.dataset_server import FAULTS, DatasetServer, dataset_server
from tests.integration.test_postgres_warehouse import url_of
from tests.oracle_catalogue import Catalogue, read_catalogue

SAMPLE = ROOT / "sample_data" / "catalogue"
REAL = ROOT.parent / "shared" / "data" / "dataset_catalogue" / "aws_open_data_registry.ndjson"
DETAILS = "registry__dataset_details"
QUICK = "retry: { attempts: 2, first_wait_seconds: 0.01, longest_wait_seconds: 0.05, timeout_seconds: 1 }"


def read_lines(file: Path) -> dict[str, bytes]:
    """The records of an NDJSON file, by slug."""
    lines = file.read_bytes().split(b"\n")
    return {json.loads(line)["slug"]: line for line in lines if line}


def oracle_of(records: Mapping[str, bytes], rejected: Mapping[str, Any]) -> Catalogue:
    return read_catalogue(json.loads(line) for slug, line in records.items() if slug not in rejected)


def assert_shown(project: Project, expected: Catalogue) -> None:
    """That the target shows just that, row by row."""
    names = list(next(iter(expected.datasets.values())))
    found = {
        slug: dict(zip(names, values, strict=True))
        for slug, *values in project.query(f"select slug, {', '.join(names)} from datasets")
    }
    assert found.keys() == expected.datasets.keys()
    for slug, row in expected.datasets.items():
        assert found[slug] == row, slug
    assert set(project.query("select slug, keyword from dataset_keywords")) == expected.keywords
    assert dict(project.query("select publisher, count_datasets from publisher_summary")) == {
        publisher: len(slugs) for publisher, slugs in expected.publishers.items()
    }


def ask(project: Project, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query on the warehouse."""
    with duckdb.connect(str(project.root / ".penstock" / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def make_project(folder: Path, postgres: str) -> Project:
    return Project(copy_tree(folder / "pen stock", domains=("catalogue",)), create_database(postgres))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What the generator of the sample put into it."""
    return dict(json.loads((SAMPLE / "expected.json").read_text()))


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Project:
    """A project that ran once over the sample that the bundled API serves; for looking only."""
    project = make_project(tmp_path_factory.mktemp("catalogue"), postgres)
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture
def registry(tmp_path: Path, postgres: str) -> Iterator[tuple[Project, DatasetServer]]:
    """A project, and a registry of its own that serves the sample."""
    project = make_project(tmp_path, postgres)
    hurry(project)
    with dataset_server(read_lines(SAMPLE / "datasets.ndjson")) as server:
        yield project, server


def hurry(project: Project) -> None:
    """Let requests be tried again at once."""
    file = project.root / "penstock.yml"
    text = file.read_text()
    file.write_text(text.replace("    for_each:", f"    {QUICK}\n    for_each:"))


def test_the_sample_is_published_as_an_oracle_reads_it(sample_run: Project, expected: dict[str, Any]) -> None:
    records = read_lines(SAMPLE / "datasets.ndjson")
    assert len(records) == expected["listed"]
    assert_shown(sample_run, oracle_of(records, expected["rejected"]))
    books = {each["source"]: each for each in sample_run.summary["sources"]}
    assert (books["registry__datasets"]["loaded"], books["registry__datasets"]["rejected"]) == (120, 0)
    assert (books[DETAILS]["loaded"], books[DETAILS]["rejected"]) == (120, len(expected["rejected"]))
    assert sample_run.summary["is_balanced"]
    shown = json.loads(sample_run.run("books", "--json").stdout)["candidates"]
    (datasets,) = (mart for mart in shown if mart["mart"] == "datasets")
    assert datasets["count_accepted"] == datasets["count_candidates"] == 120 - len(expected["rejected"])


def test_every_rejected_record_has_its_reasons(sample_run: Project, expected: dict[str, Any]) -> None:
    assert dict(ask(sample_run, "select slug, failed_rules from marts.rejected_datasets")) == expected["rejected"]


MARTS = {
    "datasets": "* exclude (fetched_at)",
    "dataset_keywords": "*",
    "publisher_summary": "* exclude (last_fetched_at)",
    "fetch_reliability": "* exclude (first_fetched_at, last_fetched_at)",
    "rejected_datasets": "* exclude (load_id, run_id, loaded_at)",
    "outcomes_catalogue": "* exclude (load_id, run_id, loaded_at)",
}


def marts(warehouse: Warehouse) -> dict[str, Any]:
    """Columns, types and rows of every mart, without what differs from run to run."""
    found = {}
    with open_warehouse(warehouse, read_only=True) as connection:
        for mart, columns in MARTS.items():
            described = connection.execute(f"describe select {columns} from marts.{mart}").fetchall()
            rows = connection.execute(f"select {columns} from marts.{mart} order by all").fetchall()
            found[mart] = ([column[:2] for column in described], rows)
    return found


def test_both_engines_build_the_same_marts(sample_run: Project, tmp_path: Path, postgres: str) -> None:
    project = make_project(tmp_path, postgres)
    warehouse = PostgresWarehouse(url_of(create_database(postgres)))
    done = project.run("run", WAREHOUSE_URL=warehouse.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert marts(warehouse) == marts(sample_run.root / ".penstock" / "warehouse.duckdb")


def test_models_and_their_unit_tests_build_on_postgres_before_the_first_run(tmp_path: Path, postgres: str) -> None:
    root = copy_tree(tmp_path / "pen stock", domains=("catalogue",))
    parts = conninfo_to_dict(create_database(postgres))
    named = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), "build", "--target", "postgres"],
        cwd=root,
        env=os.environ | {variable: str(parts[name]) for variable, name in named.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


GOOD = {"Name": "N", "ManagedBy": "P", "License": "L"}
ODD: dict[str, tuple[dict[str, Any] | str, list[str] | None]] = {
    "nul": (GOOD | {"Description": "a\x00b"}, ["record_unreadable"]),
    "half-a-pair": ('{"slug": "half-a-pair", "Name": "\\ud800"}', ["record_unreadable"]),
    "other-case": (
        {"NAME": "N", "managedby": "P", "license": "L"}, ["name_missing", "publisher_missing", "licence_missing"],
    ),
    "numbers": (GOOD | {"Name": 7, "Tags": [1, True, "x", None], "License": 5}, None),
    "values": (GOOD | {"Tags": "One", "Resources": {"Type": "A"}, "ManagedBy": ["P", "[Q](q)"]}, None),
    "nothing": (GOOD | {"Tags": None, "Resources": None, "Deprecated": None, "DeprecatedNotice": " \n"}, None),
    "empty": (GOOD | {"Tags": [], "Resources": [], "DataAtWork": {}, "Contact": "", "Deprecated": "no"}, None),
    "works": (GOOD | {"DataAtWork": {"Tutorials": {"AuthorName": "A"}, "Tools & Applications": ["x"]}}, None),
    "escaped": (GOOD | {"Escaped": "\\ud800"}, None),
    "no-works": (GOOD | {"DataAtWork": ["Tutorials"]}, None),
    "work-text": (GOOD | {"DataAtWork": "Tutorials"}, None),
    "objects": (
        {"Name": {"a": 1}, "ManagedBy": {}, "License": [[]], "Tags": [{}], "Resources": [None], "Deprecated": [1]},
        ["name_unreadable", "keywords_unreadable", "resources_unreadable", "deprecated_unreadable",
         "publisher_unreadable", "licence_unreadable"],
    ),
    "spaces": (GOOD | {"Name": "\u3000N\u00a0\t N\n", "Tags": [" A\n b", "a B"], "ManagedBy": "P\u200b"}, None),
}  # fmt: skip


def odd_record(slug: str) -> bytes:
    record = ODD[slug][0]
    return record.encode() if isinstance(record, str) else json.dumps({"slug": slug} | record).encode()


def test_odd_records_are_read_or_rejected_alike_by_both_engines(tmp_path: Path, postgres: str) -> None:
    project = make_project(tmp_path, postgres)
    records = {slug: odd_record(slug) for slug in ODD}
    warehouse = PostgresWarehouse(url_of(create_database(postgres)))
    with dataset_server(records) as server:
        for places in ({}, {"WAREHOUSE_URL": warehouse.url}):
            done = project.run("run", API_BASE_URL=server.url, **places)
            assert done.returncode == 0, done.stdout + done.stderr
    rejected = {slug: rules for slug, (_, rules) in ODD.items() if rules}
    found = dict(ask(project, "select split_part(location, '/', -1), failed_rules from marts.rejected_datasets"))
    assert found == rejected
    assert_shown(project, oracle_of(records, rejected))
    here, there = marts(project.root / ".penstock" / "warehouse.duckdb"), marts(warehouse)
    # The name that is an object is spelt as each engine spells JSON.
    assert {mart: here[mart] for mart in here if mart != "rejected_datasets"} == {
        mart: there[mart] for mart in there if mart != "rejected_datasets"
    }


def test_what_failed_is_listed_published_around_and_asked_for_alone(registry: tuple[Project, DatasetServer]) -> None:
    project, server = registry
    chosen = list(server.records)[::10]
    kinds = dict(zip(chosen, list(FAULTS) * 3, strict=False))
    server.faults = {slug: FAULTS[kind][0] for slug, kind in kinds.items()}

    began = datetime.now(UTC)
    done = project.run("run", API_BASE_URL=server.url)
    assert done.returncode == 4, done.stdout + done.stderr
    summary = project.summary
    assert (summary["status"], len(chosen)) == ("partial", 12)
    assert "12 ids without a usable answer" in done.stderr + done.stdout
    assert "penstock replay --source registry__dataset_details" in done.stderr + done.stdout
    rejected = json.loads((SAMPLE / "expected.json").read_text())["rejected"]
    good = {slug: line for slug, line in server.records.items() if slug not in chosen}
    assert_shown(project, oracle_of(good, rejected))
    assert server.most_at_once <= 4

    # Each failure is told whole: in the result, ...
    failed = {each["id"]: each for each in summary["result"]["failed"]}
    assert failed.keys() == set(chosen)
    for slug, each in failed.items():
        _, stage, reason = FAULTS[kinds[slug]]
        assert (each["source"], each["stage"], each["error_type"], each["attempts"]) == (DETAILS, stage, reason, 2)
        assert each["message"]
        assert began <= datetime.fromisoformat(each["first_attempt_at"]) <= datetime.now(UTC)
        assert each["first_attempt_at"] <= each["last_attempt_at"]
    (ids,) = summary["result"]["ids"]
    assert (ids["successful"]["count"], ids["failed"]["count"], ids["success_rate_percent"]) == (108, 12, 90.0)
    # ... and as letters.
    listed = json.loads(
        project.run("deadletters", "list", "--ids", "--json", "--stage", "fetch", "--stage", "parse").stdout
    )
    assert Counter(each["reasons"] for each in listed) == Counter(FAULTS[kind][2] for kind in kinds.values())
    assert {(each["attempts"], each["state"]) for each in listed} == {(2, "open")}
    found = (
        "count_asked, count_fetched, count_failed, count_failed_fetching, count_failed_parsing, count_failed_attempts"
    )
    query = f"select {found}, success_rate_pct from fetch_reliability where source = '{DETAILS}'"
    assert project.query(query) == [(120, 108, 12, 8, 4, 24, Decimal("90.00"))]

    # A replay asks for them and for nothing else, two of them still fail.
    server.asked.clear()
    server.faults = dict.fromkeys(chosen[:2], FAULTS["500"][0])
    done = project.run("replay", "--source", DETAILS, API_BASE_URL=server.url)
    assert done.returncode == 4, done.stdout + done.stderr
    assert server.asked == Counter(chosen) + Counter(chosen[:2])
    # So does the next run, which finds the last two well.
    server.asked.clear()
    server.faults = {}
    done = project.run("run", API_BASE_URL=server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.asked == Counter(chosen[:2])
    assert_shown(project, oracle_of(server.records, rejected))
    states = json.loads(project.run("deadletters", "list", "--ids", "--json", "--state", "open").stdout)
    assert [each for each in states if each["stage"] in ("fetch", "parse")] == []


def test_a_run_that_goes_on_asks_for_what_failed_and_keeps_its_id(registry: tuple[Project, DatasetServer]) -> None:
    project, server = registry
    chosen = list(server.records)[5:8]
    server.faults = dict.fromkeys(chosen, FAULTS["dropped"][0])
    assert project.run("run", API_BASE_URL=server.url).returncode == 4
    run_id = project.summary["run_id"]
    server.asked.clear()
    server.faults = {}
    done = project.run("run", "--resume", API_BASE_URL=server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.summary["run_id"], project.summary["status"]) == (run_id, "succeeded")
    assert server.asked == Counter(chosen)
    rejected = json.loads((SAMPLE / "expected.json").read_text())["rejected"]
    assert_shown(project, oracle_of(server.records, rejected))


def test_one_that_fails_later_keeps_the_row_that_it_had(registry: tuple[Project, DatasetServer]) -> None:
    project, server = registry
    file = project.root / "penstock.yml"
    file.write_text(file.read_text().replace(", refresh_hours: 20", ""))
    assert project.run("run", API_BASE_URL=server.url).returncode == 0
    rejected = json.loads((SAMPLE / "expected.json").read_text())["rejected"]
    slug, *others = (each for each in server.records if each not in rejected)
    changed = json.loads(server.records[others[0]]) | {"Name": "Another Name"}
    server.records = dict(server.records) | {others[0]: json.dumps(changed).encode()}
    server.asked.clear()
    server.faults = {slug: FAULTS["truncated"][0]}
    done = project.run("run", API_BASE_URL=server.url)
    assert done.returncode == 4, done.stdout + done.stderr
    assert len(server.asked) == 120  # no age is given from which on an answer is asked for anew
    assert_shown(project, oracle_of(server.records, rejected))
    assert project.query(f"select name from datasets where slug = '{others[0]}'") == [("Another Name",)]


def test_an_earlier_run_can_be_built_again_after_later_ones(sample_run: Project, tmp_path: Path, postgres: str) -> None:
    root = tmp_path / "pen stock"
    shutil.copytree(sample_run.root, root)
    copied = conninfo_to_dict(sample_run.dsn)["dbname"]
    project = Project(root, create_database(postgres, str(copied)))
    run_id = project.summary["run_id"]
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    done = project.run("rebuild", "--as-of", run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fetch_reliability" in done.stdout
    assert "DIFFERS" not in done.stdout


@pytest.mark.skipif(not REAL.is_file(), reason="the records of a real registry are not on this machine")
def test_a_real_registry_is_published_as_an_oracle_reads_it(tmp_path: Path, postgres: str) -> None:
    project = make_project(tmp_path, postgres)
    hurry(project)
    records = read_lines(REAL)
    with dataset_server(records) as server:
        done = project.run("run", API_BASE_URL=server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = oracle_of(records, {})
    assert (len(records), len(expected.datasets), len(expected.keywords)) == (1141, 1141, 8050)
    assert ask(project, "select count(*) from marts.rejected_datasets") == [(0,)]
    assert_shown(project, expected)


SUITES = {"registry__datasets", DETAILS, *MARTS}
MEASURE, COUNT = "expect_measure_to_be_between", "expect_table_row_count_to_be_between"
LATER = "loaded_at = loaded_at + interval 1 hour"
# What is done to a good warehouse, and the check that finds it.
DEFECTS: dict[str, tuple[str, str, tuple[str, str, str | None, str]]] = {
    "most data sets are gone": (
        "marts",
        "delete from datasets where hash(slug) % 3 > 0",
        ("datasets", COUNT, None, "critical"),
    ),
    "the catalogue has grown beyond belief": (
        "marts",
        "insert into datasets select datasets.* replace (slug || i as slug) from datasets, range(3) as t(i)",
        ("datasets", COUNT, None, "warning"),
    ),
    "one name for all": (
        "marts",
        "update datasets set name = 'Data'",
        ("datasets", "expect_column_proportion_of_unique_values_to_be_between", "name", "warning"),
    ),
    "most are deprecated": (
        "marts",
        "update datasets set is_deprecated = true",
        ("datasets", MEASURE, "deprecated_pct", "warning"),
    ),
    "descriptions are lost": (
        "marts",
        "update datasets set description = null where hash(slug) % 2 = 0",
        ("datasets", MEASURE, "described_pct", "warning"),
    ),
    "addresses of licences are lost": (
        "marts",
        "update datasets set licence_url = null",
        ("datasets", MEASURE, "licence_url_filled_pct", "warning"),
    ),
    "resources are lost": (
        "marts",
        "update datasets set count_resources = 0",
        ("datasets", MEASURE, "resources_per_dataset", "warning"),
    ),
    "keywords are lost": (
        "marts",
        "delete from dataset_keywords where hash(slug, keyword) % 3 > 0",
        ("dataset_keywords", COUNT, None, "critical"),
    ),
    "a keyword is a sentence": (
        "marts",
        "update dataset_keywords set keyword = repeat('word ', 30) where keyword = 'urban'",
        ("dataset_keywords", MEASURE, "longest_keyword_characters", "warning"),
    ),
    "keywords are split into words": (
        "marts",
        "insert into dataset_keywords select slug, keyword || i from dataset_keywords, range(2) as t(i)",
        ("dataset_keywords", MEASURE, "keywords_per_dataset", "warning"),
    ),
    "publishers are lost": ("marts", "truncate publisher_summary", ("publisher_summary", COUNT, None, "critical")),
    "one publisher for nearly all": (
        "marts",
        "update publisher_summary set count_datasets = 5000 where publisher = 'Tarn Volunteers'",
        ("publisher_summary", MEASURE, "largest_publisher_pct", "warning"),
    ),
    "publishers are spelt otherwise": (
        "marts",
        "update publisher_summary set count_datasets = 1",
        ("publisher_summary", MEASURE, "datasets_per_publisher", "warning"),
    ),
    "the API answers badly": (
        "marts",
        "update fetch_reliability set count_failed = 20, success_rate_pct = 80",
        ("fetch_reliability", MEASURE, "worst_success_rate_pct", "warning"),
    ),
    "failures that nobody tried": (
        "marts",
        "update fetch_reliability set count_failed = 20, count_failed_attempts = 0",
        ("fetch_reliability", MEASURE, "failed_attempts_per_failure", "warning"),
    ),
    "the shape of new records has changed": (
        "marts",
        f"update outcomes_catalogue set outcome = 'rejected', {LATER} where source = '{DETAILS}' and line = 1",
        ("outcomes_catalogue", MEASURE, "rejected_pct", "critical"),
    ),
    "no outcome at all": ("marts", "truncate outcomes_catalogue", ("outcomes_catalogue", COUNT, None, "critical")),
    "a clock is wrong": (
        "marts",
        "update outcomes_catalogue set loaded_at = loaded_at + interval 9 day",
        ("outcomes_catalogue", "expect_column_max_to_be_between", "loaded_at", "warning"),
    ),
    "a third of the list was never read": (
        "marts",
        f"delete from outcomes_catalogue where source = '{DETAILS}' and hash(record_key) % 3 = 0",
        ("outcomes_catalogue", MEASURE, "listed_without_metadata_pct_critical", "critical"),
    ),
    "a tenth of the list was never read": (
        "marts",
        f"delete from outcomes_catalogue where source = '{DETAILS}' and hash(record_key) % 10 = 0",
        ("outcomes_catalogue", MEASURE, "listed_without_metadata_pct_warning", "warning"),
    ),
    "the slug has another name": (
        "raw",
        """update raw.registry__datasets set _loaded_at = _loaded_at + interval 1 hour,
            record = replace(record, '"slug"', '"id"')""",
        ("registry__datasets", MEASURE, "slug_filled_pct", "warning"),
    ),
    "a field of the metadata has another name": (
        "raw",
        f"""update raw.{DETAILS} set _loaded_at = _loaded_at + interval 1 hour,
            record = replace(record, '"License"', '"Licence"')""",
        (DETAILS, MEASURE, "emptiest_column_filled_pct", "warning"),
    ),
    "raw has lost rows": (
        "raw",
        f"delete from raw.{DETAILS} where hash(record) % 2 = 0",
        (DETAILS, COUNT, None, "critical"),
    ),
}


@pytest.fixture(scope="module")
def judged(sample_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of the sample, its view of outcomes as a table that can be spoilt."""
    file = tmp_path_factory.mktemp("judged") / "warehouse.duckdb"
    shutil.copy(sample_run.root / ".penstock" / "warehouse.duckdb", file)
    with duckdb.connect(str(file)) as connection:
        connection.execute("create table outcomes as select * from marts.outcomes_catalogue")
        connection.execute("drop view marts.outcomes_catalogue")
        connection.execute("create table marts.outcomes_catalogue as select * from outcomes")
    return file


def failed_checks(gate: str, warehouse: Path) -> list[tuple[str, str, str | None, str]]:
    result = run_gate(
        gate,
        warehouse,
        run_id="later",
        failure_threshold_percent=10,
        failure_min_records=20,
        judged_apart=[DETAILS],
        judged_at=datetime.now(UTC) + timedelta(hours=2),
    )
    return [
        (check.suite, check.expectation, check.column, check.severity)
        for check in result.failures
        if check.suite in SUITES
    ]


@pytest.mark.parametrize("gate", ["raw", "marts"])
def test_a_good_catalogue_passes_every_check(gate: str, judged: Path) -> None:
    assert failed_checks(gate, judged) == []


@pytest.mark.parametrize(("gate", "spoil", "found"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_of_the_catalogue_is_found(
    gate: str, spoil: str, found: tuple[str, str, str | None, str], judged: Path, tmp_path: Path
) -> None:
    warehouse = Path(shutil.copy(judged, tmp_path / "warehouse.duckdb"))
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'; set schema = 'marts'")
        connection.execute(spoil)
    assert found in failed_checks(gate, warehouse)
