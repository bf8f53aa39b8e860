"""raw.registry__dataset_details: the metadata of the data sets arrive whole, with the fields that staging reads."""

from datetime import timedelta

import great_expectations as gx

from expectations.history import History
from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

# Not Deprecated, Citation and DataAtWork: most records lack one of them.
FIELDS = ("slug", "Name", "Description", "ManagedBy", "UpdateFrequency", "License", "Tags", "Resources")
STALE_AFTER = timedelta(days=30)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="registry__dataset_details",
        expectations=[
            *_raw.shape("registry__dataset_details", ("record",), history),
            *_raw.filled_fields("registry__dataset_details", FIELDS, history, key="slug"),
            *_raw.freshness(history, STALE_AFTER, "Metadata of hundreds of data sets"),
        ],
    )
