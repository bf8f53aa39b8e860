"""marts.dataset_keywords: the keywords still tell data sets apart, as many as there were."""

import great_expectations as gx

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween
from expectations.suites import _marts

GATE = "marts"
KEY = ("slug", "keyword")


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="dataset_keywords",
        expectations=[
            *_marts.volume("dataset_keywords", history),
            ExpectMeasureToBeBetween(
                measure="longest_keyword_characters",
                query="select coalesce(max(length(keyword)), 0), arg_max(slug, length(keyword)) as slug from {batch}",
                max_value=100,
                severity="warning",
                notes="A keyword is a few words; a hundred characters are a sentence, or a list that was not split.",
            ),
            _marts.measure_near(
                "dataset_keywords",
                "keywords_per_dataset",
                "select coalesce(1.0 * count(*) / nullif(count(distinct slug), 0), 0) from {batch}",
                2,
                history,
                "Publishers tag as they always did: two more or less for each data set are a list split otherwise.",
            ),
        ],
    )
