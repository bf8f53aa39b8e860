"""raw.shop__customers: customers arrive under their ids and names."""

from datetime import timedelta

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = ("id", "name")
STALE_AFTER = timedelta(days=35)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="shop__customers",
        expectations=[
            *_raw.shape("shop__customers", COLUMNS, history),
            *_raw.filled_columns("shop__customers", COLUMNS, history),
            *_raw.freshness(history, STALE_AFTER, "The list of customers"),
        ],
    )
