"""marts.datasets: the catalogue as a whole is plausible beside the one that is published.

That slugs are unique, flags set and every accepted record there is proven row by row in dbt.
"""

import great_expectations as gx
import great_expectations.expectations as gxe

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween
from expectations.suites import _marts

GATE = "marts"
KEY = ("slug",)


def _filled(columns: str) -> str:
    return f"select coalesce(100.0 * count({columns}) / nullif(count(*), 0), 0) from {{batch}}"


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="datasets",
        expectations=[
            *_marts.volume("datasets", history),
            gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(
                column="name",
                min_value=0.9,
                severity="warning",
                notes="A few data sets share a name; a tenth of them means that something else was read as the name.",
            ),
            ExpectMeasureToBeBetween(
                measure="deprecated_pct",
                query="select coalesce(100.0 * avg(case when is_deprecated then 1 else 0 end), 0) from {batch}",
                max_value=50,
                severity="warning",
                notes="A registry is there for what can be used: above half the meaning of the flag is likely another.",
            ),
            _marts.measure_near(
                "datasets",
                "described_pct",
                _filled("description"),
                10,
                history,
                "Nearly all have a description: ten points since the last release are a field that was renamed.",
            ),
            _marts.measure_near(
                "datasets",
                "licence_url_filled_pct",
                _filled("licence_url"),
                10,
                history,
                "Licences are free text, so any share is right; ten points since the last release are a new spelling.",
            ),
            _marts.measure_near(
                "datasets",
                "resources_per_dataset",
                "select coalesce(avg(count_resources), 0) from {batch}",
                1,
                history,
                "Places come one by one: one more or less for each data set is a list that is read otherwise.",
            ),
        ],
    )
