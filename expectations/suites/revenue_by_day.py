"""marts.revenue_by_day: days sell as days did, and orders are worth what their items are."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("ordered_on",)

LARGEST_REVENUE_DRIFT = 0.3
LARGEST_EMPTY_DRIFT = 5.0
LARGEST_GAP_DRIFT = 5.0


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="revenue_by_day",
        expectations=[
            *_marts.volume("revenue_by_day", history),
            *_marts.mean_near(
                "revenue_by_day",
                "revenue_usd",
                LARGEST_REVENUE_DRIFT,
                history,
                "One more day, or one month, moves the mean of all days little.",
            ),
            _marts.measure_near(
                "revenue_by_day",
                "orders_without_items_pct",
                """
                    select coalesce(100.0 * sum(count_orders_without_items) / nullif(sum(count_orders), 0), 0)
                    from {batch}
                """,
                LARGEST_EMPTY_DRIFT,
                history,
                "A few orders are cancelled before they have items; a jump is a file of items that did not come.",
            ),
            _marts.measure_near(
                "revenue_by_day",
                "subtotal_gap_pct",
                "select coalesce(100.0 * sum(abs(subtotal_gap_usd)) / nullif(sum(subtotal_usd), 0), 0) from {batch}",
                LARGEST_GAP_DRIFT,
                history,
                "Discounts and unknown products open a small gap. A jump is a price list that changed, or half a file.",
            ),
        ],
    )
