"""What holds for every outcomes model: few enough of the records that no release has yet were rejected."""

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween

KEY = ("source", "location", "line")


def shape(history: History) -> list[Expectation]:
    """Table shape: outcomes are there, and of no time that has not come."""
    return [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=1,
            notes="Without outcomes there is nothing to tell the share of rejected records from.",
        ),
        gxe.ExpectColumnMaxToBeBetween(
            column="loaded_at",
            max_value=history.judged_at,
            severity="warning",
            notes="A later time is a clock that is wrong. Records loaded after this one are the next release's.",
        ),
    ]


def rejections(table: str, history: History) -> list[Expectation]:
    """Table shape, and the shares of rejected records: over all sources, and of the worst one."""
    sources = _sources(table, history)
    return [
        *shape(history),
        ExpectMeasureToBeBetween(
            measure="rejected_pct",
            query=f"""
                select
                    {history.stopping_percent("sum(rejected)", "sum(records)")},
                    coalesce(sum(records), 0) as element_count,
                    coalesce(sum(rejected), 0) as unexpected_count,
                    flatten(list(examples order by rejected desc)) as examples
                from ({sources}) where {history.judged_together("source")}
            """,
            max_value=history.failure_threshold_percent,
            notes="FAILURE_THRESHOLD_PERCENT, over the records that no release has yet. One that a later load sets "
            "right, or whose dead letter is settled, counts no more, nor do replays; running again without new data "
            "changes nothing. "
            f"Fewer than {history.failure_min_records:,} stop nothing and are 0 here; a source with a threshold of "
            "its own is judged with the books.",
        ),
        ExpectMeasureToBeBetween(
            measure="worst_source_rejected_pct",
            query=f"""
                select
                    coalesce(max(100.0 * rejected / records), 0),
                    arg_max(records, rejected / records) as element_count,
                    arg_max(rejected, rejected / records) as unexpected_count,
                    arg_max(examples, rejected / records) as examples
                from ({sources}) where {history.judged_together("source")}
            """,
            max_value=history.failure_threshold_percent,
            severity="warning",
            notes="The same share for the worst source alone: a small one that is broken hides in the total.",
        ),
    ]


def _sources(table: str, history: History) -> str:
    """SQL: per source, the unreleased records, those of them that stand rejected, and the first few of these.

    Only the keys of rejected records are looked up again, so that memory follows these and not the whole load.
    """
    return f"""
        with unreleased as not materialized (
            select source, location, content_hash, line, record_key, loaded_at, outcome,
                {history.first_read("load_id")} as is_first_read
            from {{batch}} as batch where {history.unreleased(table, "loaded_at")}
        ),
        rejected as not materialized (
            select * from unreleased
            where outcome = 'rejected' and is_first_read and {history.unsettled("unreleased")}
        ),
        newest as (
            select source, record_key, max(loaded_at) as loaded_at
            from unreleased semi join rejected using (source, record_key)
            group by source, record_key
        ),
        -- a record without a key cannot be set right; versions that one run loaded stand together
        standing as (
            select rejected.* from rejected left join newest using (source, record_key)
            where newest.loaded_at is null or rejected.loaded_at >= newest.loaded_at
        ),
        counted as (
            select source, count(*) as records, count(*) filter (where outcome = 'rejected') as ever_rejected
            from unreleased where is_first_read group by source
        ),
        left_over as (
            select source, count(*) as rejected,
                arg_min(struct_pack(source := source, location := location, line := line, key := record_key), line, 5)
                    as examples
            from standing group by source
        )
        select source, coalesce(rejected, 0) as rejected, examples,
            records - ever_rejected + coalesce(rejected, 0) as records
        from counted left join left_over using (source)
    """
