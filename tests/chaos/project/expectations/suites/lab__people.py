"""raw.lab__people: the rows that its loads booked are there."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(name="lab__people", expectations=[*_raw.shape("lab__people", ("record",), history)])
