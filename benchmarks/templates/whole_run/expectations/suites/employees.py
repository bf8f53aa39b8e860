"""marts.employees: the staff as a whole is plausible."""

import great_expectations as gx
import great_expectations.expectations as gxe

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("id",)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="employees",
        expectations=[
            *_marts.volume("employees", history),
            gxe.ExpectColumnMeanToBeBetween(
                column="salary",
                min_value=20_000,
                max_value=300_000,
                notes="US dollars a year: a mean outside of this is a salary by the month or in cents.",
            ),
        ],
    )
