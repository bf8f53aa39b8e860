"""raw.payroll__employees: the payroll system's JSON export arrives whole, with the fields that staging reads."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

FIELDS = ("id", "name", "email", "age", "department", "salary", "joinDate", "isActive")


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="payroll__employees",
        expectations=[
            *_raw.shape("payroll__employees", ("record",), history),
            *_raw.filled_fields("payroll__employees", FIELDS, history),
            *_raw.freshness(history),
        ],
    )
