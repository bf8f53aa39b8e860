"""raw.shop__orders: the files of orders arrive whole, under the headings that staging knows."""

from datetime import timedelta

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = ("id", "customer", "ordered_at", "store_id", "subtotal", "tax_paid", "order_total")
STALE_AFTER = timedelta(days=7)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="shop__orders",
        expectations=[
            *_raw.shape("shop__orders", COLUMNS, history),
            *_raw.filled_columns("shop__orders", COLUMNS, history),
            *_raw.freshness(history, STALE_AFTER, "Orders"),
        ],
    )
