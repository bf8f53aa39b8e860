"""Domains: what belongs to which, and what each came to."""

from pathlib import Path

import pytest

from foundation.events import Event
from operations.domains import Stopwatch, read_domains, sum_up


def test_a_domain_is_a_folder_of_models(tmp_path: Path) -> None:
    for name in (
        "staging/ingestion/stg_ingestion__loads.sql",
        "staging/shop/stg_till__orders.sql",
        "staging/shop/_shop__sources.yml",
        "intermediate/shop/int_shop__judged.sql",
        "marts/shop/outcomes_shop.sql",
        "marts/shop/revenue.sql",
        "marts/people/people.sql",
    ):
        file = tmp_path / "dbt_project" / "models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert read_domains(tmp_path) == {
        "till__orders": "shop",
        "outcomes_shop": "shop",
        "revenue": "shop",
        "people": "people",
    }
    assert read_domains(tmp_path / "nowhere") == {}


def test_work_on_one_table_adds_up_and_what_never_ended_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 10.5])
    monkeypatch.setattr("operations.domains.time.monotonic", lambda: next(now))
    stopwatch = Stopwatch()
    for event in (
        Event("started", "ingest", "a", partition="1"),
        Event("started", "ingest", "a", partition="2"),
        Event("progressed", "ingest", "a", partition="2"),
        Event("finished", "ingest", "a", partition="1"),
        Event("failed", "ingest", "a", partition="2"),
        Event("started", "gate", "a"),
        Event("started", "build"),
        Event("finished", "gate", "a"),
        Event("finished", "gate", "b"),
    ):
        stopwatch(event)
    assert stopwatch.seconds == {"a": 3.0 + 5.0 + 0.5}


def test_a_domain_has_the_sums_of_its_sources() -> None:
    domains = {"till__orders": "shop", "till__customers": "shop", "revenue": "shop", "people": "people"}
    counts = {"loaded": 1, "dead_lettered": 0, "skipped": 0, "duplicates": 0, "rejected": 0, "published": 1}
    sources = [
        {"source": "till__orders", "read": 3, "is_balanced": True, **counts},
        {"source": "till__customers", "read": 4, "is_balanced": False, **counts},
        {"source": "stray__things", "read": 9, "is_balanced": True, **counts},
    ]
    seconds = {"till__orders": 1.0, "revenue": 0.25, "people": 2.0, "stray__things": 8.0}
    people, shop = sum_up(domains, sources, seconds, {"shop": 4.0, "people": 1.0, "ingestion": 7.0})
    assert (shop["domain"], shop["sources"], shop["read"], shop["loaded"], shop["is_balanced"]) == (
        "shop",
        2,
        7,
        2,
        False,
    )
    assert (shop["seconds"], shop["build_seconds"]) == (1.25, 4.0)
    assert (people["domain"], people["sources"], people["read"], people["is_balanced"], people["seconds"]) == (
        "people",
        0,
        0,
        None,
        2.0,
    )


def test_what_nobody_has_judged_is_not_told_as_none_judged() -> None:
    source = {"source": "a", "read": 1, "is_balanced": None, "loaded": 1, "dead_lettered": 0, "skipped": 0}
    (found,) = sum_up({"a": "x"}, [source | {"duplicates": None, "rejected": None, "published": None}], {}, {})
    assert (found["read"], found["published"], found["is_balanced"]) == (1, None, None)
