"""raw.bench__employees: the file has the columns that staging reads, and they are filled."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = ("id", "name", "email", "age", "department", "salary", "join_date", "is_active")


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="bench__employees",
        expectations=[
            *_raw.shape("bench__employees", COLUMNS, history),
            *_raw.filled_columns("bench__employees", COLUMNS, history),
        ],
    )
