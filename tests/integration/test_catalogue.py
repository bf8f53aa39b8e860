"""The catalogue of data sets: hundreds of records that are fetched one by one, each failing alone."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import ROOT, Project, copy_tree, create_database
from tests.dataset_server import FAULTS, DatasetServer, dataset_server
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


def published(project: Project) -> Catalogue:
    """What the target shows, as the oracle spells it."""
    found = Catalogue()
    some = next(iter(read_catalogue([json.loads(SAMPLE.joinpath("datasets.ndjson").read_bytes().split(b"\n")[0])]).datasets.values()))
    for slug, *values in project.query(f"select slug, {', '.join(some)} from datasets"):
        found.datasets[slug] = dict(zip(some, values, strict=True))
    found.keywords = set(project.query("select slug, keyword from dataset_keywords"))  # type: ignore[arg-type]
    return found


def assert_equal(project: Project, expected: Catalogue) -> None:
    found = published(project)
    assert found.datasets.keys() == expected.datasets.keys()
    for slug, row in expected.datasets.items():
        assert found.datasets[slug] == row, slug
    assert found.keywords == expected.keywords
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
    assert_equal(sample_run, oracle_of(records, expected["rejected"]))
    books = {each["source"]: each for each in sample_run.summary["sources"]}
    assert (books["registry__datasets"]["loaded"], books["registry__datasets"]["rejected"]) == (120, 0)
    assert (books[DETAILS]["loaded"], books[DETAILS]["rejected"]) == (120, len(expected["rejected"]))
    assert sample_run.summary["is_balanced"]


def test_every_rejected_record_has_its_reasons(sample_run: Project, expected: dict[str, Any]) -> None:
    assert dict(ask(sample_run, "select slug, failed_rules from marts.rejected_datasets")) == expected["rejected"]
