"""What the warehouse holds that letters are found in: complete loads, rejected records, outcomes, rows of raw.

Everything here is SQL over whole tables; what is not there yet reads as empty.
"""

from collections.abc import Sequence

import duckdb

from foundation.queries import IS_COMPLETE, Tables
from foundation.warehouse import quote_identifier, quote_literal

LINEAGE = ("_location", "_content_hash", "_line", "_load_id", "_loaded_at")
# What the SQL here reads of a load, with the type of what a warehouse of an earlier version lacks.
_LOAD_COLUMNS = {
    "load_id": "varchar",
    "run_id": "varchar",
    "source": "varchar",
    "kind": "varchar",
    "location": "varchar",
    "content_hash": "varchar",
    "start_bytes": "bigint",
    "records_read": "bigint",
    "records_skipped": "bigint",
    "columns": "varchar",
    "dialect": "varchar",
    "partition": "varchar",
    "loaded_at": "timestamptz",
}
# The records of a replay bear the id of their letter before this mark in their content hash.
MARK = "-"
# The id of a letter by its row of raw.dead_letters, `letters`, and that of its load, `loads`. An id that an API did not
# answer for is one letter, however often and why.
LETTER_ID = """
    case when loads.kind = 'api' and letters.line is null
        then sha256(concat_ws(chr(0), 'fetch', letters.source, letters.location, letters.record))[:32]
        else letters.dead_letter_id
    end
"""


def see_loads(connection: duckdb.DuckDBPyConnection, tables: Tables) -> list[str]:
    """Make the table `complete_loads`; the sources that have any and a table in raw."""
    there = tables.columns.get("raw.loads", {})
    names = ", ".join(
        f"loads.{name}" if name in there else f"null::{kind} as {name}" for name, kind in _LOAD_COLUMNS.items()
    )
    query = f"""
        select distinct on (loads.load_id) {names} from raw.loads as loads where {IS_COMPLETE}
    """
    if not tables.has("raw._dlt_loads") or not there:
        query = f"select {', '.join(f'null::{kind} as {name}' for name, kind in _LOAD_COLUMNS.items())} where false"
    connection.execute(f"create or replace temp table complete_loads as {query}")
    sources = connection.execute("select distinct source from complete_loads order by 1").fetchall()
    return [source for (source,) in sources if f"raw.{source}" in tables.columns]


def see_rejected(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """Make the table `rejected`: every record that some model rejects, by source, content_hash and line."""
    queries = []
    for model in tables.marts("rejected_", "source", "content_hash", "line", "failed_rules"):
        columns = tables.columns[f"marts.{model}"]
        rules = "array_to_string(failed_rules, ',')" if columns["failed_rules"].endswith("[]") else "failed_rules"
        optional = ", ".join(
            name if name in columns else f"null::{kind} as {name}"
            for name, kind in (("location", "varchar"), ("load_id", "varchar"), ("loaded_at", "timestamptz"))
        )
        queries.append(
            f"select source, content_hash, line, {rules} as reasons, {optional} from marts.{quote_identifier(model)}"
        )
    empty = (
        "select '' as source, '' as content_hash, 0::bigint as line, '' as reasons, '' as location, '' as load_id, "
        "now() as loaded_at where false"
    )
    connection.execute(
        "create or replace temp table rejected as select distinct on (source, content_hash, line) * "
        f"from ({' union all '.join(queries or [empty])})"
    )


def see_outcomes(connection: duckdb.DuckDBPyConnection, tables: Tables, wanted: str) -> None:
    """Make the table `outcomes` of the records that the table `wanted` names, by place or by key.

    `wanted` has the columns source, content_hash, line, record_key. The models are read once, and only where anything
    is wanted.
    """
    queries = []
    has_any = connection.execute(f"select 1 from {wanted} limit 1").fetchone() is not None
    for model in tables.marts("outcomes_", "source", "content_hash", "line", "outcome") if has_any else ():
        columns = tables.columns[f"marts.{model}"]
        optional = ", ".join(
            f"outcomes.{name}::{kind} as {name}" if name in columns else f"null::{kind} as {name}"
            for name, kind in (("record_key", "varchar"), ("loaded_at", "timestamptz"))
        )
        queries.append(
            "select outcomes.source, outcomes.content_hash, outcomes.line, outcomes.outcome, "
            f"{optional} from marts.{quote_identifier(model)} as outcomes"
        )
    empty = (
        "select '' as source, '' as content_hash, 0::bigint as line, '' as outcome, '' as record_key, "
        "now() as loaded_at where false"
    )
    connection.execute(
        f"""
        create or replace temp table outcomes as
        select * from ({" union all ".join(queries or [empty])}) as judged
        where (source, content_hash, line) in (select (source, content_hash, line) from {wanted})
            or (outcome <> 'rejected' and (source, record_key) in (
                select (source, record_key) from {wanted} where record_key is not null
            ))
        """
    )


def rows_of_raw(tables: Tables, sources: Sequence[str], names: str, condition: str) -> str:
    """SQL for rows of the raw tables of these sources: source, `names`, which may read `record`."""
    queries = [
        f"""
        select {names} from (
            select {quote_literal(source)} as source, {", ".join(LINEAGE)}, {_record_of(tables, source)} as record
            from raw.{quote_identifier(source)}
        ) as rows_of_source where {condition}
        """
        for source in sources
    ]
    empty = (
        f"select {names} from (select '' as source, '' as _location, '' as _content_hash, 0::bigint as _line, "
        "'' as _load_id, now() as _loaded_at, '' as record) as rows_of_source where false"
    )
    return " union all ".join(queries or [empty])


def _record_of(tables: Tables, source: str) -> str:
    """SQL for the record of a row of raw: its text, or its columns as a JSON object, without those of ingestion."""
    columns = tables.columns.get(f"raw.{source}", {})
    values = [name for name in columns if name not in LINEAGE and not name.startswith("_dlt_")]
    if values == ["record"]:
        return "record"
    parts = ", ".join(f"{quote_identifier(name)} := {quote_identifier(name)}" for name in values)
    return f"to_json(struct_pack({parts}))::varchar"
