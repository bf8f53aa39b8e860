"""marts.revenue_by_product: products sell, and the catalogue knows them."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("sku",)

LARGEST_UNKNOWN_SHARE = 5.0
LARGEST_UNKNOWN_DRIFT = 2.0
LARGEST_SHARE_DRIFT = 10.0


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="revenue_by_product",
        expectations=[
            *_marts.volume("revenue_by_product", history),
            _marts.measure_near(
                "revenue_by_product",
                "items_of_unknown_products_pct",
                """
                    select coalesce(100.0 * sum(case when sku = '(unknown)' then count_items else 0 end)
                        / nullif(sum(count_items), 0), 0)
                    from {batch}
                """,
                LARGEST_UNKNOWN_DRIFT,
                history,
                "A product may be sold a day before the catalogue has it. More is a catalogue that was cut.",
                max_value=LARGEST_UNKNOWN_SHARE,
            ),
            _marts.measure_near(
                "revenue_by_product",
                "best_seller_pct",
                "select coalesce(100.0 * max(items_usd) / nullif(sum(items_usd), 0), 0) from {batch}",
                LARGEST_SHARE_DRIFT,
                history,
                "Tastes move slowly: more is one price with its point in the wrong place.",
            ),
        ],
    )
