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


def measure_near(
    table: str, measure: str, query: str, distance: float, history: History, notes: str, **bounds: float
) -> Expectation:
    """Statistics: a number within `distance` of what the last release had, and within fixed `bounds`; both warn."""
    low, high = near(history.last(table, "expect_measure_to_be_between", measure), distance)
    least, most = bounds.get("min_value"), bounds.get("max_value")
    return ExpectMeasureToBeBetween(
        measure=measure,
        query=query,
        min_value=max((bound for bound in (low, least) if bound is not None), default=None),
        max_value=min((bound for bound in (high, most) if bound is not None), default=None),
        severity="warning",
        notes=notes,
    )


def mean_near(table: str, column: str, share: float, history: History, notes: str) -> list[Expectation]:
    """Statistics: a mean within `share` of what the last release had; the first release only notes it."""
    last = history.last(table, "expect_column_mean_to_be_between", column)
    low, high = (None, None) if last is None else (last - share * abs(last), last + share * abs(last))
    return [
        gxe.ExpectColumnMeanToBeBetween(
            column=column,
            min_value=0 if low is None else low,
            max_value=high,
            severity="warning",
            notes=f"{notes} Beyond {share:.0%} since the last release it is other data.",
        )
    ]
