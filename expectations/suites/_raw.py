"""What holds for every raw table, whatever its source: used by the suites of the gate `raw`."""

from collections.abc import Sequence
from datetime import timedelta

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween
from foundation.warehouse import quote_identifier, quote_literal

LINEAGE = ("_location", "_content_hash", "_line", "_load_id", "_loaded_at")
KEY = ("_location", "_line")
STALE_AFTER = timedelta(days=7)


def shape(table: str, columns: Sequence[str], history: History) -> list[Expectation]:
    """Table shape: the columns that staging reads, and at least the rows that the loads booked."""
    return [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=[*LINEAGE, *columns],
            exact_match=False,
            notes="Staging reads these; without the lineage no row can be traced, replayed or told from its repeat.",
        ),
        _volume(history.booked_counts.get(table, 0)),
    ]


def _volume(booked: int) -> Expectation:
    if booked:
        return gxe.ExpectTableRowCountToBeBetween(
            min_value=booked,
            notes="Raw is append-only: fewer rows than its complete loads booked means that rows were deleted.",
        )
    return gxe.ExpectTableRowCountToBeBetween(
        min_value=1,
        severity="warning",
        notes="A source that never gave a record is wrong or not ready; the others go on without it.",
    )


def filled_columns(table: str, columns: Sequence[str], history: History, key: str = "id") -> list[Expectation]:
    """Keys and values of a CSV source: in what is not released yet, no column that matters lies empty."""
    values = ", ".join(quote_identifier(column) for column in columns)
    return _filled(table, columns, f"[{values}]", history, key)


def filled_fields(table: str, fields: Sequence[str], history: History) -> list[Expectation]:
    """Keys and values of a JSON or API source: the same for the fields of the column `record`."""
    paths = ", ".join(quote_literal(f"$.{name}") for name in fields)
    # All paths in one call, so that each record is parsed once.
    return _filled(table, fields, f"json_extract_string(record, [{paths}])", history)


def _filled(table: str, names: Sequence[str], values: str, history: History, key: str = "id") -> list[Expectation]:
    """`values` is SQL for the list of texts that a row has under `names`."""
    new_rows = f"""
        (select _location, _line, {values} as texts from {{batch}} where {history.unreleased(table, "_loaded_at")})
    """
    no_id = f"coalesce(texts[{names.index(key) + 1}], '') = ''"
    shares = ", ".join(
        f"100.0 * avg(case when coalesce(texts[{place}], '') = '' then 0 else 1 end) as {quote_identifier(name)}"
        for place, name in enumerate(names, start=1)
    )
    return [
        ExpectMeasureToBeBetween(
            measure=f"{key}_filled_pct",
            query=f"""
                select
                    coalesce(100.0 * avg(case when {no_id} then 0 else 1 end), 100),
                    count(*) as element_count,
                    count(*) filter (where {no_id}) as unexpected_count,
                    arg_min(struct_pack(location := _location, line := _line), _line, 5)
                        filter (where {no_id}) as examples
                from {new_rows}
            """,
            min_value=90,
            severity="warning",
            notes="Many rows without a key: the source was read wrongly. Single ones are rejected one by one in dbt.",
        ),
        ExpectMeasureToBeBetween(
            measure="emptiest_column_filled_pct",
            query=f"""
                select coalesce(min(filled_pct), 100), arg_min(name, filled_pct) as emptiest_column
                from (unpivot (select {shares} from {new_rows}) on columns(*) into name name value filled_pct)
            """,
            min_value=50,
            severity="warning",
            notes="A column that was renamed or moved lies empty in every new row; half of them are never mere gaps.",
        ),
    ]


def freshness(history: History, stale_after: timedelta = STALE_AFTER, of: str = "Staff lists") -> list[Expectation]:
    """Statistics: the source still delivers."""
    return [
        gxe.ExpectColumnMaxToBeBetween(
            column="_loaded_at",
            min_value=history.judged_at - stale_after,
            severity="warning",
            notes=f"{of} change more often: {stale_after.days} days without a new row is a source that stopped.",
        ),
    ]
