"""marts.outcomes_catalogue: few records were rejected, and few data sets of the list have no metadata at all.

Requests that failed stop nothing by themselves; what they leave missing is judged here.
"""

import great_expectations as gx

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween
from expectations.suites import _outcomes

GATE = "marts"
KEY = _outcomes.KEY

LIST, DETAILS = "registry__datasets", "registry__dataset_details"
MOST_MISSING, MANY_MISSING = 25, 5


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    unreleased = history.unreleased("outcomes_catalogue", "loaded_at")
    return gx.ExpectationSuite(
        name="outcomes_catalogue",
        expectations=[
            *_outcomes.shape(history),
            ExpectMeasureToBeBetween(
                measure="rejected_pct",
                query=f"""
                    select
                        {history.stopping_percent("coalesce(sum(rejected), 0)", "coalesce(sum(records), 0)")},
                        coalesce(sum(records), 0) as element_count,
                        coalesce(sum(rejected), 0) as unexpected_count,
                        flatten(list(examples order by rejected desc)) as examples
                    from (
                        select
                            source,
                            count(*) as records,
                            count(*) filter (where outcome = 'rejected') as rejected,
                            arg_min(struct_pack(source := source, location := location, line := line), location, 5)
                                filter (where outcome = 'rejected') as examples
                        from {{batch}} where source = '{DETAILS}' and {unreleased} group by source
                    )
                """,
                max_value=history.failure_threshold_percent,
                notes="FAILURE_THRESHOLD_PERCENT, over the metadata that no release has yet: so many broken records "
                f"are a shape that changed. Fewer than {history.failure_min_records:,} stop nothing and are 0 here.",
            ),
            *(_missing(most, severity) for most, severity in ((MOST_MISSING, "critical"), (MANY_MISSING, "warning"))),
        ],
    )


def _missing(most: int, severity: str) -> ExpectMeasureToBeBetween:
    why = {
        "critical": "A catalogue without a quarter of what its list has would be read as if these were withdrawn.",
        "warning": "Single data sets fail for a while; one in twenty is an API in trouble.",
    }
    return ExpectMeasureToBeBetween(
        measure=f"listed_without_metadata_pct_{severity}",
        query=f"""
            with listed as (
                select distinct record_key as slug from {{batch}} where source = '{LIST}' and outcome <> 'rejected'
            ),
            described as (select distinct record_key as slug from {{batch}} where source = '{DETAILS}')
            select
                coalesce(100.0 * count(*) filter (where not is_described) / nullif(count(*), 0), 0),
                count(*) as element_count,
                count(*) filter (where not is_described) as unexpected_count
            from (select slug in (select slug from described where slug is not null) as is_described from listed)
        """,
        max_value=most,
        severity=severity,
        notes=f"{why[severity]} Those are counted that no answer was ever read for, or one without a slug.",
    )
