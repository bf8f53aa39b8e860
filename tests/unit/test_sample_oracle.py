"""The oracle that other tests trust, tried on cases small enough to judge by eye."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tests.oracle_employees import (
    Record,
    experience_years,
    judge,
    normalise_name,
    parse_json,
    read_date,
    read_money,
    read_whole,
    salary_grade,
)

AS_OF = date(2026, 1, 1)
GOOD: dict[str, Any] = {
    "id": "1",
    "name": "Ann Bell",
    "email": "ann@example.com",
    "age": "30",
    "department": "eng",
    "salary": "$85,000.00",
    "joinDate": "2020-02-29",
    "isActive": "yes",
}


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        ("mary-ann o'neil", "Mary-Ann O'Neil"),
        ("McDonald", "McDonald"),
        ("  ana\u00a0\t sofia\u3000bell ", "Ana Sofia Bell"),
        ("rene\u0301e o’hara", "Rene\u0301e O’Hara"),
        ("zoë ångström", "Zoë Ångström"),
        ("иван белов", "Иван Белов"),
        ("李娜", "李娜"),
        ("sam 🚀 rivers", "Sam 🚀 Rivers"),
    ],
)
def test_names(written: str, clean: str) -> None:
    assert normalise_name(written) == clean


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2024-01-05", date(2024, 1, 5)),
        ("2024/01/05", date(2024, 1, 5)),
        ("5 Jan 2024", date(2024, 1, 5)),
        ("2024-01-05T09:30:00Z", date(2024, 1, 5)),
        ("2024-01-05T14:00:00", date(2024, 1, 5)),
        ("25/12/2023", date(2023, 12, 25)),
        ("03/04/2023", None),
        ("31/04/2023", None),
        ("2023-02-29", None),
        ("5 Foo 2024", None),
        ("2024-1-5", None),
        ("not-a-date", None),
        (None, None),
    ],
)
def test_dates(text: str | None, day: date | None) -> None:
    assert read_date(text) == day


@pytest.mark.parametrize(
    ("text", "dollars"),
    [("$85,000.00", "85000"), ("85000", "85000"), ("1,000,000", "1000000"), ("-5", "-5")]
    + [(text, None) for text in ("$1,2,3", "85k", "$", "", "8,5000", None)],
)
def test_money(text: str | None, dollars: str | None) -> None:
    assert read_money(text) == (Decimal(dollars) if dollars else None)


def test_whole_numbers() -> None:
    assert [read_whole(text) for text in ("30", "-1", "30abc", "30.5", "true", "٣٠", None)] == [30, -1, *[None] * 5]


def test_completed_years() -> None:
    days = (date(2026, 2, 28), date(2026, 3, 1))
    assert [experience_years(date(2024, 2, 29), day) for day in days] == [1, 2]
    assert experience_years(date(2024, 6, 1), date(2026, 6, 1)) == 2


def test_grades() -> None:
    salaries = (Decimal("49999.99"), 50_000, Decimal("79999.99"), 80_000, Decimal("119999.99"), 120_000)
    grades = ["Junior", "Mid", "Mid", "Senior", "Senior", "Principal"]
    assert [salary_grade(Decimal(salary)) for salary in salaries] == grades


def test_not_a_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="NaN"):
        parse_json('{"salary": NaN}')


def _record(line: int, source: str = "hr__employees", loaded: int = 0, **changed: object) -> Record:
    return Record(source, "file", line, GOOD | changed, loaded)


def _outcomes(*records: Record) -> list[str]:
    return [" ".join((verdict.outcome, *verdict.failed_rules)) for verdict in judge(records, AS_OF)]


def test_every_failure_of_a_record_is_told() -> None:
    record = _record(1, age="30abc", salary="$1,2,3", isActive="maybe", metadata=[1], joinDate="2026-01-02")
    assert _outcomes(record) == ["rejected age salary join_date is_active metadata"]


def test_newest_by_its_own_time_wins_over_load_order() -> None:
    old = _record(1, loaded=2, updatedAt="2025-01-01T23:00:00-07:00")
    new = _record(2, loaded=1, updatedAt="2025-01-02T07:00:00Z")
    assert _outcomes(old, new, _record(3, loaded=3)) == ["duplicate", "accepted", "duplicate"]


def test_without_a_time_the_later_load_wins_then_the_source_then_the_line() -> None:
    assert _outcomes(_record(1, loaded=1), _record(2, "talent__employees", loaded=2)) == ["duplicate", "accepted"]
    assert _outcomes(_record(1), _record(2, "payroll__employees")) == ["accepted", "duplicate"]
    assert _outcomes(_record(1), _record(2)) == ["duplicate", "accepted"]


def test_an_invalid_newest_version_leaves_the_older_one_standing() -> None:
    newest = _record(2, age="15", updatedAt="2025-01-01T00:00:00Z")
    assert _outcomes(_record(1), newest) == ["accepted", "rejected age"]


def test_an_email_belongs_to_the_id_that_claimed_it_first() -> None:
    late = _record(1, loaded=1, id="1")
    early = _record(2, "talent__employees", id="2", email=" ANN@example.com")
    assert _outcomes(late, early) == ["rejected email_not_unique", "accepted"]


def test_an_id_that_claims_a_taken_email_keeps_its_older_version() -> None:
    older = _record(2, id="2", email="bob@example.com")
    newer = _record(3, id="2", updatedAt="2025-01-01T00:00:00Z")
    assert _outcomes(_record(1), older, newer) == ["accepted", "accepted", "rejected email_not_unique"]


def test_an_id_may_be_a_number_in_json() -> None:
    assert _outcomes(_record(1, id=1, age=30, salary=Decimal("85000.5"), isActive=True), _record(2)) == [
        "duplicate",
        "accepted",
    ]
