"""raw.shop__products: the catalogue arrives with its prices, in which every item is counted."""

from datetime import timedelta

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = ("sku", "name", "type", "price")
STALE_AFTER = timedelta(days=35)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="shop__products",
        expectations=[
            *_raw.shape("shop__products", COLUMNS, history),
            *_raw.filled_columns("shop__products", COLUMNS, history, key="sku"),
            *_raw.freshness(history, STALE_AFTER, "The catalogue"),
        ],
    )
