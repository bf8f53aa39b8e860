"""raw.shop__order_items: the files of items arrive whole; without them no product sells."""

from datetime import timedelta

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = ("id", "order_id", "sku")
STALE_AFTER = timedelta(days=7)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="shop__order_items",
        expectations=[
            *_raw.shape("shop__order_items", COLUMNS, history),
            *_raw.filled_columns("shop__order_items", COLUMNS, history),
            *_raw.freshness(history, STALE_AFTER, "Order items"),
        ],
    )
