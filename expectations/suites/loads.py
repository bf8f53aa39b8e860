"""raw.loads: the sources can be read, so that few of the records that no release has yet became dead letters."""

import great_expectations as gx

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween

GATE = "raw"
KEY = ("load_id",)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="loads",
        expectations=[
            ExpectMeasureToBeBetween(
                measure="dead_lettered_pct",
                query=f"""
                    select
                        coalesce(100.0 * sum(records_dead_lettered) / nullif(sum(records_read), 0), 0),
                        coalesce(sum(records_read), 0) as element_count,
                        coalesce(sum(records_dead_lettered), 0) as unexpected_count,
                        arg_max(
                            struct_pack(source := source, location := location, dead_letters := records_dead_lettered),
                            records_dead_lettered, 5
                        ) filter (where records_dead_lettered > 0) as examples
                    from {{batch}}
                    where {history.unreleased("loads", "loaded_at")}
                """,
                max_value=history.failure_threshold_percent,
                severity="warning",
                notes="FAILURE_THRESHOLD_PERCENT. No reason to stop: what is published keeps the records it has, and "
                "with one unreachable source and nothing else new the share is 100.",
            ),
        ],
    )
