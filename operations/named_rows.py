"""The rows that checks of a gate named as failing: all of them, up to a bound, fetched and kept by SQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb

from foundation.warehouse import quote_identifier

MOST_ROWS = 10_000  # of a check; how many more there are is told
_MOST_COLUMNS = 12
_LONGEST_TEXT = 200
_NAMED = """
    create or replace temp table rows_named
        (gate varchar, suite varchar, expectation varchar, column_name varchar, sample varchar)
"""
# What was named before keeps when that began; a run that judges again counts once.
_KEPT = """
    create or replace temp table rows_kept as
    select
        named.*, coalesce(before.attempts, 0) + (before.run_id is distinct from $run_id)::bigint as attempts,
        coalesce(before.first_run_id, $run_id) as first_run_id, coalesce(before.first_seen, $at) as first_seen,
        $run_id as run_id, $at as checked_at
    from (select distinct * from rows_named) as named
    left join ops.gate_rows as before
        on named.gate = before.gate and named.suite = before.suite and named.expectation = before.expectation
        and named.column_name is not distinct from before.column_name and named.sample = before.sample
"""


def name_rows(
    connection: duckdb.DuckDBPyConnection, run_id: str, checks: Sequence[Mapping[str, Any]], checked_at: datetime
) -> list[int | None]:
    """Have the rows that failed in these checks ready for `keep_rows`.

    For each check how many there are; None where it cannot say which they are.
    """
    connection.execute(_NAMED)
    counts = [_name(connection, check) for check in checks]
    connection.execute(_KEPT, {"run_id": run_id, "at": checked_at})
    return counts


def keep_rows(connection: duckdb.DuckDBPyConnection, gates: Sequence[str]) -> None:
    """Keep what `name_rows` named in place of the rows of these gates; its caller holds the transaction."""
    connection.execute("delete from ops.gate_rows where list_contains(?::varchar[], gate)", [gates])
    connection.execute("insert into ops.gate_rows by name select * from rows_kept")


def _name(connection: duckdb.DuckDBPyConnection, check: Mapping[str, Any]) -> int | None:
    query = check.get("rows_query")
    if not query:
        return None
    values = [check[name] for name in ("gate", "suite", "expectation", "column_name")]
    try:
        row = connection.execute(f"select count(*) from ({query})").fetchone()
        # GX leaves a row_condition out of its query, which then gives other rows than failed.
        if row is None or check["count_unexpected"] not in (None, row[0]):
            return None
        columns = connection.execute(f"describe {query}").fetchall()[:_MOST_COLUMNS]
        parts = ", ".join(f"{quote_identifier(name)} := {_shown(name, kind)}" for name, kind, *_ in columns)
        connection.execute(
            f"insert into rows_named select ?, ?, ?, ?, to_json(struct_pack({parts}))::varchar as sample "
            f"from ({query}) order by sample limit {MOST_ROWS}",
            values,
        )
    except duckdb.Error:  # the check has its samples all the same
        return None
    return min(int(row[0]), MOST_ROWS)


def _shown(name: str, kind: str) -> str:
    """A number as it is, all else as a text that is not too long."""
    column = quote_identifier(name)
    return column if kind.endswith("INT") or kind == "INTEGER" else f"left({column}::varchar, {_LONGEST_TEXT})"
