"""raw.hr__employees: the HR system's CSV exports arrive whole, under the headings that staging knows."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = ("id", "name", "email", "age", "department", "salary", "join_date", "is_active")


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="hr__employees",
        expectations=[
            *_raw.shape("hr__employees", COLUMNS, history),
            *_raw.filled_columns("hr__employees", COLUMNS, history),
            *_raw.freshness(history),
        ],
    )
