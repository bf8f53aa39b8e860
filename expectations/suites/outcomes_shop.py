"""marts.outcomes_shop: few enough of the records that no release has yet were rejected.

What was rejected is judged here, where it can be set against what was not; marts.rejected_shop needs no suite.
"""

import great_expectations as gx

from expectations.history import History
from expectations.suites import _outcomes

GATE = "marts"
KEY = _outcomes.KEY


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(name="outcomes_shop", expectations=_outcomes.rejections("outcomes_shop", history))
