"""marts.publisher_summary: publishers keep their share of the catalogue from release to release."""

import great_expectations as gx

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween
from expectations.suites import _marts

GATE = "marts"
KEY = ("publisher",)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="publisher_summary",
        expectations=[
            *_marts.volume("publisher_summary", history),
            ExpectMeasureToBeBetween(
                measure="largest_publisher_pct",
                query="""
                    select coalesce(100.0 * max(count_datasets) / nullif(sum(count_datasets), 0), 0),
                        arg_max(publisher, count_datasets) as publisher
                    from {batch}
                """,
                max_value=75,
                severity="warning",
                notes="A registry has many publishers: three quarters with one is a default that was read as a name.",
            ),
            _marts.measure_near(
                "publisher_summary",
                "datasets_per_publisher",
                "select coalesce(1.0 * sum(count_datasets) / nullif(count(*), 0), 0) from {batch}",
                2,
                history,
                "Publishers come and go one by one: two data sets more or less for each are names spelt otherwise.",
            ),
        ],
    )
