"""marts.teams: of a size that the last release makes likely."""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("team",)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(name="teams", expectations=[*_marts.volume("teams", history)])
