"""raw.talent__employees: the talent API's records arrive whole, with the fields that staging reads."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

FIELDS = ("id", "name", "email", "age", "department", "salary", "joinDate", "isActive")


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="talent__employees",
        expectations=[
            *_raw.shape("talent__employees", ("record",), history),
            *_raw.filled_fields("talent__employees", FIELDS, history),
            *_raw.freshness(history),
        ],
    )
