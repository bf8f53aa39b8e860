"""The result of a run in several attempts: every part once, with its final state."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.settings import Settings, load_settings
from operations.ledger import Ledger, Partition
from operations.result import Failure, read_result

START = datetime(2026, 1, 1, tzinfo=UTC)
PARTS = [("hr__people", ""), ("shop__products", "toys"), ("shop__products", "books")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project whose run read three parts in its first attempt, of which the products failed."""
    (tmp_path / "penstock.yml").write_text("")
    settings = load_settings(tmp_path, {})
    settings.work_dir.mkdir()
    ledger = Ledger(settings.warehouse, "run-1")
    ledger.start("run", START, date(2026, 1, 1))
    ledger.plan_partitions(PARTS)
    ledger.finish_partitions(
        [
            Partition("hr__people", "", "done", {"read": 2, "loaded": 2}, 1, None, START),
            *(Partition(*part, "failed", {}, 1, "answered 500", START) for part in PARTS[1:]),
        ]
    )
    return settings


def failure(stage: str, source: str | None = None, partition: str | None = None) -> Failure:
    error = "AnswerError" if source else "StorageError"
    return Failure(stage, error, "answered 500", 2, START, START, 0.5, "Traceback", source, partition)


def resumed(settings: Settings, states: dict[tuple[str, str], str], failures: list[Failure]) -> dict[str, Any]:
    """The result of the second attempt, which leaves parts so."""
    ledger = Ledger(settings.warehouse, "run-1", 2)
    ledger.resume(START, "")
    at = START + timedelta(hours=1)
    ledger.plan_partitions(list(states))
    ledger.finish_partitions([Partition(*part, state, {}, 1, None, at) for part, state in states.items()])
    return read_result(settings, "run-1", failures)


def listed(result: dict[str, Any], kind: str) -> list[tuple[Any, ...]]:
    return [(each.get("stage"), each["source"], each["partition"]) for each in result[kind]]


def finish(settings: Settings) -> None:
    """The first attempt comes to its end, and tells why the products failed."""
    result = read_result(settings, "run-1", [failure("ingest", *part) for part in PARTS[1:]])
    Ledger(settings.warehouse, "run-1").finish("partial", 4, release_id=None, error=None, summary={"result": result})


def test_parts_that_an_earlier_attempt_failed_to_read_are_listed_with_their_reason(settings: Settings) -> None:
    finish(settings)
    result = resumed(settings, {}, [failure("ingest")])
    assert listed(result, "failed") == [("ingest", None, None), *(("ingest", *part) for part in PARTS[1:])]
    assert {each["error_type"] for each in result["failed"][1:]} == {"AnswerError"}
    assert listed(result, "successful") == [(None, "hr__people", None)]
    assert result["success_rate_percent"] == round(100 / 3, 3)


def test_a_part_that_a_later_attempt_has_read_is_listed_once_with_its_final_state(settings: Settings) -> None:
    finish(settings)
    states = {("shop__products", "toys"): "done", ("shop__products", "books"): "failed"}
    result = resumed(settings, states, [failure("ingest", "shop__products", "books")])
    assert listed(result, "failed") == [("ingest", "shop__products", "books")]
    assert listed(result, "successful") == [(None, "hr__people", None), (None, "shop__products", "toys")]
    assert [part["attempts"] for part in result["successful"]] == [1, 2]


def test_a_part_that_failed_in_an_attempt_that_was_cut_off_is_listed_too(settings: Settings) -> None:
    result = resumed(settings, {("shop__products", "toys"): "done"}, [])
    (books,) = result["failed"]
    assert (books["source"], books["partition"], books["message"], books["attempts"]) == (
        "shop__products",
        "books",
        "answered 500",
        1,
    )
