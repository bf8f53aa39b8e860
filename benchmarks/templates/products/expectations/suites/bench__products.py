"""raw.bench__products: the files have the columns that staging reads, and they are filled."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = ("id", "name", "category", "price", "changed_on")


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="bench__products",
        expectations=[
            *_raw.shape("bench__products", COLUMNS, history),
            *_raw.filled_columns("bench__products", COLUMNS, history),
        ],
    )
