"""The report site from what the warehouse holds: the ledger, the rejected records, the dead letters."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from foundation.warehouse import Warehouse, open_warehouse, quote_identifier, quote_literal
from operations.accounts.books import LATEST_BOOKS
from operations.dead_letters import EXAMPLE, place, shown
from operations.site.index import BOOK_COUNTS, render_index
from operations.site.quality import render_quality_page

_RUNS_READ = 50


def render_site(warehouse: Warehouse, site_dir: Path, *, generated_at: datetime | None = None) -> list[Path]:
    """Write `index.html` and `quality.html` into `site_dir`, and return them. Whatever is not there yet shows as empty.

    Raises LockedError when another process has the warehouse open, StorageError when it or the site is out of reach.
    """
    generated_at = generated_at or datetime.now(UTC)
    facts = _no_facts()
    if warehouse.exists():
        with open_warehouse(warehouse, read_only=True) as connection:
            facts = _read_facts(connection)
    checks = facts["checks"]
    return [
        render_index(out=site_dir / "index.html", generated_at=generated_at, **facts),
        render_quality_page(checks, site_dir / "quality.html", generated_at=generated_at),
    ]


def _no_facts() -> dict[str, list[dict[str, Any]]]:
    names = ("runs", "books", "mart_books", "checks", "freshness", "dead_letter_counts", "rejected_counts")
    return {name: [] for name in names}


def _read_facts(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, Any]]]:
    tables = {
        f"{schema}.{table}"
        for schema, table in connection.execute(
            "select table_schema, table_name from information_schema.tables where table_catalog = current_database()"
        ).fetchall()
    }
    facts = _no_facts()
    if "ops.runs" in tables:
        newest = f"(select * from ops.runs order by started_at desc limit {_RUNS_READ})"
        facts["runs"] = _rows(connection, f"from {newest}")
        if "ops.books" in tables:
            facts["books"] = _rows(connection, _books("ops.closings" in tables, newest))
        if "ops.mart_books" in tables:
            facts["mart_books"] = _rows(
                connection, f"from ops.mart_books where run_id in (select run_id from {newest})"
            )
    if "ops.gate_results" in tables:
        facts["checks"] = _rows(
            connection,
            """
            -- in the order of insertion, which a semi-join keeps and Postgres has no number for
            from ops.gate_results
            where (gate, run_id) in (select (gate, arg_max(run_id, checked_at)) from ops.gate_results group by gate)
            """,
        )
    if "raw.loads" in tables:
        facts["freshness"] = _rows(
            connection,
            "select source, max(loaded_at) as loaded_at from raw.loads where records_loaded > 0 group by source",
        )
    if "raw.dead_letters" in tables:
        facts["dead_letter_counts"] = _dead_letters(connection, facts["runs"])
    for model in _rejected_models(connection):
        facts["rejected_counts"] += _rejected(connection, model)
    return facts


def _books(is_chained: bool, newest: str) -> str:
    """The books of each source, its partitions added up; a ledger of an older version knows no partitions."""
    counts = ", ".join(f"sum({name})::bigint as {name}" for name in BOOK_COUNTS)
    return f"""
        select run_id, source, {counts}, bool_and(is_balanced) as is_balanced
        from {LATEST_BOOKS if is_chained else "ops.books"} where run_id in (select run_id from {newest}) group by all
    """


def _rejected_models(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        """
        select table_name from information_schema.columns
        where table_catalog = current_database() and table_schema = 'marts'
            and starts_with(table_name, 'rejected_') and column_name = 'failed_rules'
        order by table_name
        """
    ).fetchall()
    return [model for (model,) in rows]


def _dead_letters(connection: duckdb.DuckDBPyConnection, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last_run = quote_literal(str(runs[0]["run_id"])) if runs else "null"
    rows = _rows(
        connection,
        f"""
        select source, reason, count(*) as records, max(occurred_at) as last_at,
            count(*) filter (where run_id = {last_run}) as records_last_run,
            {EXAMPLE} as example
        from raw.dead_letters group by source, reason order by records desc limit 100
        """,
    )
    for row in rows:
        example = shown(row.pop("example"))
        row |= {"message": example["message"], "place": place(example)}
    return rows


def _rejected(connection: duckdb.DuckDBPyConnection, model: str) -> list[dict[str, Any]]:
    row = connection.execute(
        "select data_type from information_schema.columns "
        "where table_schema = 'marts' and table_name = ? and column_name = 'failed_rules'",
        [model],
    ).fetchone()
    rules = "failed_rules" if row and str(row[0]).endswith("[]") else "string_split(failed_rules, ',')"
    return _rows(
        connection,
        f"""
        select {quote_literal(model)} as model, rule, count(*) as records
        from (select unnest({rules}) as rule from marts.{quote_identifier(model)})
        group by rule order by records desc limit 100
        """,
    )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
