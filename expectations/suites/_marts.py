"""What several suites of the gate `marts` say in the same words."""

from math import ceil

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween

LARGEST_GROWTH = 3
DEPARTMENTS = ("Engineering", "Sales", "Marketing", "HR", "Finance")


def volume(table: str, history: History) -> list[Expectation]:
    """Table shape: not empty, and of a size that the last release makes likely."""
    published = history.published_counts.get(table, 0)
    shrunk = gxe.ExpectTableRowCountToBeBetween(
        min_value=max(1, ceil(published / 2)),
        notes="Publishing deletes what is missing here: empty, or under half of the last release, is a lost source.",
    )
    if not published:
        return [shrunk]
    grown = gxe.ExpectTableRowCountToBeBetween(
        max_value=LARGEST_GROWTH * published,
        severity="warning",
        notes=f"{LARGEST_GROWTH} times the last release is a new source, or keys that no longer match; look which.",
    )
    return [shrunk, grown]


def near(last: float | None, distance: float) -> tuple[float | None, float | None]:
    """Lower and upper bound within `distance` of what was seen last; none when nothing was."""
    return (None, None) if last is None else (last - distance, last + distance)


def drift(suite: str, measure: str, query: str, distance: float, why: str, history: History) -> Expectation:
    """Statistics: a measure stays within `distance` of what the last release had; any is right before the first."""
    low, high = near(history.last(suite, "expect_measure_to_be_between", measure), distance)
    return ExpectMeasureToBeBetween(
        measure=measure,
        query=query,
        min_value=low,
        max_value=high,
        severity="warning",
        notes=f"{why} {distance:g} since the last release is a change to look at.",
    )
