"""The ledger's entries: those of one event are made together or not at all."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from operations.ledger import Ledger, Partition

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """That of a run that has begun."""
    ledger = Ledger(tmp_path / "warehouse.duckdb", "run-1")
    ledger.start("run", START, date(2026, 1, 1))
    return ledger


def ask(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(ledger.warehouse)) as connection:
        return connection.execute(query).fetchall()


def check(row: int, severity: str | None = "warning") -> dict[str, Any]:
    """One that names a row; without a severity the ledger refuses it."""
    return {
        "gate": "marts",
        "suite": "people",
        "expectation": "expect_age",
        "column_name": "age",
        "severity": severity,
        "is_success": False,
        "observed_value": "1%",
        "allowed": "none",
        "count_elements": 1,
        "count_unexpected": 1,
        "samples": [],
        "notes": "",
        "rows_query": f"select {row} as id",
    }


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_results_of_a_gate_and_the_rows_that_they_name_are_entered_together_or_not_at_all(
    ledger: Ledger, attempt: int
) -> None:
    ledger.add_checks([check(1)], START)
    before = ask(ledger, "select * from ops.gate_results"), ask(ledger, "select * from ops.gate_rows")
    with pytest.raises(duckdb.ConstraintException):
        Ledger(ledger.warehouse, "run-1", attempt).add_checks([check(2), check(3, severity=None)], START)
    assert (ask(ledger, "select * from ops.gate_results"), ask(ledger, "select * from ops.gate_rows")) == before


def test_the_parts_of_an_ingest_are_planned_together_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(duckdb.ConstraintException):
        ledger.plan_partitions([("a__b", "one"), ("a__b", "two"), ("a__b", "one")])
    assert ask(ledger, "select * from ops.partitions") == []


def test_the_ends_of_parts_are_entered_together_or_not_at_all(ledger: Ledger) -> None:
    ledger.plan_partitions([("a__b", "one"), ("a__b", "two")])
    ends: list[Any] = [("one", 1.0), ("two", "no number")]
    with pytest.raises(duckdb.ConversionException):
        ledger.finish_partitions([Partition("a__b", name, "done", {}, seconds) for name, seconds in ends])
    assert ask(ledger, "select distinct state from ops.partitions") == [("waiting",)]
