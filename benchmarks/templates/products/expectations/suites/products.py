"""marts.products: the catalogue as a whole is plausible."""

import great_expectations as gx
import great_expectations.expectations as gxe

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("id",)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="products",
        expectations=[
            *_marts.volume("products", history),
            gxe.ExpectColumnMeanToBeBetween(
                column="price_usd",
                min_value=1,
                max_value=10_000,
                notes="US dollars: a mean outside of this is a price in cents or in another currency.",
            ),
        ],
    )
