"""marts.employees: the staff list as a whole is plausible beside the one that is published.

That keys are unique, columns filled and codes known is proven row by row in dbt.
"""

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween
from expectations.suites import _marts

GATE = "marts"
KEY = ("id",)

LARGEST_SALARY_DRIFT = 0.2
LARGEST_METADATA_DRIFT = 20.0


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="employees",
        expectations=[
            *_marts.volume("employees", history),
            gxe.ExpectColumnDistinctValuesToContainSet(
                column="department",
                value_set=list(_marts.DEPARTMENTS),
                severity="warning",
                notes="A department without a single person is a spelling that the alias list lost, not a closure.",
            ),
            _metadata_filled(history),
            *_salary(history),
            gxe.ExpectColumnMeanToBeBetween(
                column="age",
                min_value=20,
                max_value=65,
                severity="warning",
                notes="Working age: outside of it a year of birth or of service was read as the age.",
            ),
            ExpectMeasureToBeBetween(
                measure="active_pct",
                query="select 100.0 * avg(case when is_active then 1 else 0 end) from {batch}",
                min_value=50,
                severity="warning",
                notes="Most of a staff list works there; below half the meaning of isActive is likely turned round.",
            ),
            ExpectMeasureToBeBetween(
                measure="most_common_join_date_pct",
                query="""
                    select case when sum(people) < 100 then 0 else 100.0 * max(people) / sum(people) end,
                        arg_max(join_date, people) as join_date,
                        sum(people) as element_count, max(people) as unexpected_count
                    from (select join_date, count(*) as people from {batch} group by join_date)
                """,
                max_value=20,
                severity="warning",
                notes="One day that many share is a default date of the source; below 100 people it proves nothing.",
            ),
        ],
    )


def _metadata_filled(history: History) -> Expectation:
    low, high = _marts.near(
        history.last("employees", "expect_measure_to_be_between", "metadata_filled_pct"), LARGEST_METADATA_DRIFT
    )
    return ExpectMeasureToBeBetween(
        measure="metadata_filled_pct",
        query="select coalesce(100.0 * count(metadata) / nullif(count(*), 0), 0) from {batch}",
        min_value=low,
        max_value=high,
        severity="warning",
        notes=f"Optional, so any share is right; {LARGEST_METADATA_DRIFT:g} points since the last release is a change.",
    )


def _salary(history: History) -> list[Expectation]:
    plausible = gxe.ExpectColumnMeanToBeBetween(
        column="salary",
        min_value=20_000,
        max_value=300_000,
        severity="warning",
        notes="US dollars a year: a mean outside of this is a salary by the month, in cents or in another currency.",
    )
    last = history.last("employees", "expect_column_mean_to_be_between", "salary")
    if last is None:
        return [plausible]
    drift = gxe.ExpectColumnMeanToBeBetween(
        column="salary",
        min_value=last * (1 - LARGEST_SALARY_DRIFT),
        max_value=last * (1 + LARGEST_SALARY_DRIFT),
        severity="warning",
        notes=f"Pay rounds move it by a few percent; {LARGEST_SALARY_DRIFT:.0%} since the last release is other data.",
    )
    return [plausible, drift]
