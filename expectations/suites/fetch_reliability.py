"""marts.fetch_reliability: the APIs answer, on the newest day as on those before."""

import great_expectations as gx

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween

GATE = "marts"
KEY = ("source", "fetched_on")

SMALLEST_RATE = 90


def build(history: History) -> gx.ExpectationSuite:  # noqa: ARG001 - these bounds need no history
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="fetch_reliability",
        expectations=[
            ExpectMeasureToBeBetween(
                measure="worst_success_rate_pct",
                query="""
                    select
                        coalesce(min(success_rate_pct), 100),
                        arg_min(count_asked, success_rate_pct) as element_count,
                        arg_min(count_failed, success_rate_pct) as unexpected_count,
                        arg_min(struct_pack(source := source, fetched_on := fetched_on), success_rate_pct, 5)
                            filter (where success_rate_pct < 100) as examples
                    from {batch} where fetched_on = (select max(fetched_on) from {batch})
                """,
                min_value=SMALLEST_RATE,
                severity="warning",
                notes=f"Under {SMALLEST_RATE}% on the newest day is an API in trouble. No reason to stop: what failed "
                "keeps the record that it had, and is asked for again.",
            ),
            ExpectMeasureToBeBetween(
                measure="failed_attempts_per_failure",
                query="""
                    select coalesce(1.0 * sum(count_failed_attempts) / nullif(sum(count_failed), 0), 1) from {batch}
                """,
                min_value=1,
                severity="warning",
                notes="A failure without an attempt is a book that is wrong.",
            ),
        ],
    )
