"""raw.registry__datasets: the list of the registry arrives whole, with the slugs that all else is asked for by."""

from datetime import timedelta

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

STALE_AFTER = timedelta(days=30)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="registry__datasets",
        expectations=[
            *_raw.shape("registry__datasets", ("record",), history),
            *_raw.filled_fields("registry__datasets", ("slug", "Name"), history, key="slug"),
            *_raw.freshness(history, STALE_AFTER, "Lists of hundreds of data sets"),
        ],
    )
