"""marts.product_catalogue: prices are prices, and the list is as long as it was."""

import great_expectations as gx
import great_expectations.expectations as gxe

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("sku",)

LARGEST_PRICE_DRIFT = 0.2
LARGEST_DESCRIBED_DRIFT = 20.0


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="product_catalogue",
        expectations=[
            *_marts.volume("product_catalogue", history),
            *_marts.mean_near(
                "product_catalogue",
                "price_usd",
                LARGEST_PRICE_DRIFT,
                history,
                "A price round moves the mean by a few percent.",
            ),
            _marts.measure_near(
                "product_catalogue",
                "described_pct",
                "select coalesce(100.0 * count(description) / nullif(count(*), 0), 0) from {batch}",
                LARGEST_DESCRIBED_DRIFT,
                history,
                "Optional, so any share is right; a jump is a column that moved.",
            ),
            gxe.ExpectColumnMaxToBeBetween(
                column="price_usd",
                max_value=10_000,
                severity="warning",
                notes="Nothing in such a shop costs more: a price in cents that was multiplied twice.",
            ),
        ],
    )
