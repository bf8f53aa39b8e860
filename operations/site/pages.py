"""The report site from what the warehouse holds: the ledger, the rejected records, the dead letters."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from foundation.queries import fetch_dicts, read_tables
from foundation.warehouse import Warehouse, open_warehouse, quote_identifier, quote_literal
from operations.accounts.books import LATEST_BOOKS
from operations.letters.examples import EXAMPLE, place, shown
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
    tables = read_tables(connection)
    facts = _no_facts()
    if tables.has("ops.runs"):
        newest = f"(select * from ops.runs order by started_at desc limit {_RUNS_READ})"
        facts["runs"] = fetch_dicts(connection, f"from {newest}")
        if tables.has("ops.books"):
            facts["books"] = fetch_dicts(connection, _books(tables.has("ops.closings"), newest))
        if tables.has("ops.mart_books"):
            facts["mart_books"] = fetch_dicts(
                connection, f"from ops.mart_books where run_id in (select run_id from {newest})"
            )
    if tables.has("ops.gate_results"):
        facts["checks"] = fetch_dicts(
            connection,
            """
            -- in the order of insertion, which a semi-join keeps and Postgres has no number for
            from ops.gate_results
            where (gate, run_id) in (select (gate, arg_max(run_id, checked_at)) from ops.gate_results group by gate)
            """,
        )
    if tables.has("raw.loads"):
        facts["freshness"] = fetch_dicts(
            connection,
            "select source, max(loaded_at) as loaded_at from raw.loads where records_loaded > 0 group by source",
        )
    if tables.has("raw.dead_letters"):
        facts["dead_letter_counts"] = _dead_letters(connection, facts["runs"])
    for model in tables.marts("rejected_", "failed_rules"):
        facts["rejected_counts"] += _rejected(connection, model, tables.columns[f"marts.{model}"]["failed_rules"])
    return facts


def _books(is_chained: bool, newest: str) -> str:
    """The books of each source, its partitions added up; a ledger of an older version knows no partitions."""
    counts = ", ".join(f"sum({name})::bigint as {name}" for name in BOOK_COUNTS)
    return f"""
        select run_id, source, {counts}, bool_and(is_balanced) as is_balanced
        from {LATEST_BOOKS if is_chained else "ops.books"} where run_id in (select run_id from {newest}) group by all
    """


def _dead_letters(connection: duckdb.DuckDBPyConnection, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last_run = quote_literal(str(runs[0]["run_id"])) if runs else "null"
    rows = fetch_dicts(
        connection,
        f"""
        select source, reason, count(distinct dead_letter_id) as records, max(occurred_at) as last_at,
            count(distinct dead_letter_id) filter (where run_id = {last_run}) as records_last_run,
            {EXAMPLE} as example
        from raw.dead_letters group by source, reason order by records desc
        """,
    )
    for row in rows:
        example = shown(row.pop("example"))
        row |= {"message": example["message"], "place": place(example)}
    return rows


def _rejected(connection: duckdb.DuckDBPyConnection, model: str, kind: str) -> list[dict[str, Any]]:
    """By rule; `kind` is the type of failed_rules, a list or, in Postgres, a text."""
    rules = "failed_rules" if kind.endswith("[]") else "string_split(failed_rules, ',')"
    return fetch_dicts(
        connection,
        f"""
        select {quote_literal(model)} as model, rule, count(*) as records
        from (select unnest({rules}) as rule from marts.{quote_identifier(model)})
        group by rule order by records desc limit 100
        """,
    )
