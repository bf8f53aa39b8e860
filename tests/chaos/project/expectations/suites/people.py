"""marts.people: of a size that the last release makes likely."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("person",)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(name="people", expectations=[*_marts.volume("people", history)])
