"""marts.department_headcounts: the departments keep their proportions from release to release."""

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween
from expectations.suites import _marts
from foundation.warehouse import quote_literal

GATE = "marts"
KEY = ("department",)

LARGEST_SHARE_DRIFT = 10.0


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="department_headcounts",
        expectations=[
            *_marts.volume("department_headcounts", history),
            gxe.ExpectColumnValuesToBeBetween(
                column="salary_average_usd",
                min_value=15_000,
                max_value=400_000,
                severity="warning",
                notes="Wider than for the whole staff, as a department is small: beyond it one unit of pay is wrong.",
            ),
            *(_share(department, history) for department in _marts.DEPARTMENTS),
        ],
    )


def _share(department: str, history: History) -> Expectation:
    measure = f"{department.lower()}_share_pct"
    low, high = _marts.near(
        history.last("department_headcounts", "expect_measure_to_be_between", measure), LARGEST_SHARE_DRIFT
    )
    is_department = f"department = {quote_literal(department)}"
    return ExpectMeasureToBeBetween(
        measure=measure,
        query=f"""
            select coalesce(100.0 * sum(count_employees) filter (where {is_department}) / sum(count_employees), 0)
            from {{batch}}
        """,
        min_value=low,
        max_value=high,
        severity="warning",
        notes=f"People move slowly: {LARGEST_SHARE_DRIFT:g} points since the last release is an alias that moved.",
    )
