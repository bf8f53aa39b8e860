"""marts.revenue_by_category: categories keep their proportions."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("category",)

LARGEST_SHARE_DRIFT = 10.0


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="revenue_by_category",
        expectations=[
            *_marts.volume("revenue_by_category", history),
            _marts.measure_near(
                "revenue_by_category",
                "largest_category_pct",
                "select coalesce(100.0 * max(items_usd) / nullif(sum(items_usd), 0), 0) from {batch}",
                LARGEST_SHARE_DRIFT,
                history,
                "Categories change slowly: more is products that were sorted anew, or one that lost them.",
            ),
        ],
    )
