"""What earlier runs have read, as raw itself tells: the complete rows of raw.loads."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from foundation.sources import ApiSource, Source
from foundation.warehouse import Warehouse, open_warehouse, quote_identifier
from ingestion.parcels import Load
from ingestion.readers.framing import KnownPrefix

_COMPLETE = """
    create or replace temp view complete_loads as
    select {columns} from raw.loads as loads
    where exists (select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and done.status = 0)
"""
_OF_THE_LATEST = ("content_hash", "position_bytes", "lines", "token", "dialect", "answered_at")
# Of a location only its latest load counts: a file that went from A to B and back to A is new each time. What its
# records look like is told by the latest of which any went on: one that is empty or all broken says nothing of that.
_LATEST = f"""
    select
        source, location,
        {", ".join(f"arg_max_null({name}, place) as {name}" for name in _OF_THE_LATEST)},
        arg_max(columns, place) filter (where records_loaded > 0 and columns <> '[]') as columns,
        arg_max(fields, place) filter (where records_loaded > 0 and fields <> '{{}}') as fields
    from (
        select
            *,
            (loaded_at, position_bytes, _dlt_load_id) as place,
            -- an id without an answer leaves a load of no bytes and one dead letter
            case when kind = 'api' and (position_bytes > 0 or records_dead_lettered = 0) then loaded_at end
                as answered_at
        from complete_loads
    )
    -- a replay bears the place of its letters, and says nothing of how far the file was read
    where kind is distinct from 'replay'
    group by source, location order by source, location
"""
# A walk over pages that was cut off goes on after the last page that arrived; `lines` of a page is its number.
_WALKS = """
    select
        source,
        coalesce(partition, ''),
        arg_max(cursor, (loaded_at, _dlt_load_id, lines)) filter (where cursor is not null),
        arg_max_null(resume, (loaded_at, _dlt_load_id, lines))
    from complete_loads
    where kind = 'api'
    group by all
"""

_READ_WITH = {"columns", "delimiter", "quote", "escape", "encoding", "header", "format"}


@dataclass(frozen=True)
class SourceState:
    """Where reading of one source stands.

    Per location: the bytes read, the columns, the types of each field of its records, the token of the version, and
    when an API last answered, if it did. Per part ('' where there are none): the API cursor, and where a walk that was
    cut off goes on.
    """

    prefixes: Mapping[str, KnownPrefix] = field(default_factory=dict)
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    answered: Mapping[str, datetime] = field(default_factory=dict)
    cursors: Mapping[str, str] = field(default_factory=dict)
    resumes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Where reading stands: every source that has been read, by name, and the time that the last load bears.

    `tables` holds the columns of every table of raw, in their order.
    """

    sources: Mapping[str, SourceState] = field(default_factory=dict)
    last_loaded_at: datetime | None = None
    tables: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, source: str) -> SourceState:
        """That of one source, also when it was never read."""
        return self.sources.get(source, SourceState())

    def load_time(self, now: datetime) -> datetime:
        """The time that the next loads bear: `now`, but never before loads that are there, whatever the clock says.

        The order of loads decides which version of a file or record is the newest.
        """
        last = self.last_loaded_at
        return now if last is None or now > last else last + timedelta(microseconds=1)


def version_token(token: str | None, source: Source) -> str | None:
    """What tells versions of a file apart, `token`, with the settings that decide what is read in it."""
    settings = source.model_dump_json(include=_READ_WITH, exclude_defaults=True)
    if token is None or settings == "{}":
        return token
    return f"{token} {hashlib.sha256(settings.encode()).hexdigest()[:16]}"


def read_state(warehouse: Warehouse) -> State:
    """What the warehouse tells; nothing when it is new."""
    if not warehouse.exists():
        return State()
    with open_warehouse(warehouse) as connection:
        tables = _see_loads(connection)
        if tables is None:
            return State()
        latest = connection.execute(_LATEST).fetchall()
        walks = connection.execute(_WALKS).fetchall()
        last = connection.execute("select max(loaded_at) from raw.loads").fetchone()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for source, location, content_hash, position, lines, token, dialect, answered, columns, fields in latest:
        parts = found.setdefault(source, {"prefixes": {}, "columns": {}, "fields": {}, "tokens": {}, "answered": {}})
        # Behind the hash of a file's bytes stands that of its dialect, where only this had changed.
        parts["prefixes"][location] = KnownPrefix(position, lines, content_hash.partition("-")[0], dialect)
        parts["columns"][location] = json.loads(columns or "[]")
        parts["fields"][location] = json.loads(fields or "{}")
        if token:
            parts["tokens"][location] = token
        if answered:
            parts["answered"][location] = answered
    for source, partition, cursor, resume in walks:
        for kind, value in (("cursors", cursor), ("resumes", resume)):
            if value is not None:
                found[source].setdefault(kind, {})[partition] = value
    sources = {source: SourceState(**parts) for source, parts in found.items()}
    return State(sources, last[0] if last else None, tables)


def known_records(warehouse: Warehouse, name: str, source: Source, state: SourceState) -> pa.Array | None:
    """SHA-256, as hex, of the records in raw that an API source asks for again: those in its lag window and the ties.

    None where it asks for nothing again.
    """
    if not isinstance(source, ApiSource) or source.cursor_path is None or source.cursor_param is None:
        return None
    if not state.cursors:
        return None
    from ingestion.readers.apis.fields import MOMENT, json_path, lagged

    bounds = [lagged(cursor, source.cursor_lag) for cursor in state.cursors.values()]
    with open_warehouse(warehouse) as connection:
        _see_loads(connection)
        return connection.execute(
            f"""
            with bounds as (
                select min(try_cast(value as decimal(38, 9))) as number, min({MOMENT}) as moment, min(value) as value
                from (select unnest($bounds) as value)
            ),
            records as (
                select record, json_extract_string(record, $path) as value
                from raw.{quote_identifier(name)} where _load_id in (select load_id from complete_loads)
            ),
            measured as (
                select record, value, try_cast(value as decimal(38, 9)) as number, {MOMENT} as moment from records
            )
            select distinct sha256(record) as digest from measured, bounds
            where case
                when bounds.number is not null then measured.number >= bounds.number
                when bounds.moment is not null then measured.moment >= bounds.moment
                else measured.value >= bounds.value
            end
            """,
            {"path": json_path(source.cursor_path), "bounds": bounds},
        ).to_arrow_table()["digest"]


def replayed_keys(warehouse: Warehouse, name: str, source: Source) -> pa.Array:
    """The keys of replays that are in raw, and of those that failed while the source was read as it is now."""
    with open_warehouse(warehouse) as connection:
        tables = _see_loads(connection) or {}
        queries = {
            name: f"select _content_hash as key from raw.{quote_identifier(name)} where _load_id in "
            "(select load_id from complete_loads where kind = 'replay')",
            "dead_letters": "select content_hash from raw.dead_letters where load_id in "
            "(select load_id from complete_loads where kind = 'replay' and source = $name and dialect = $settings)",
        }
        found = [query for table, query in queries.items() if table in tables]
        values = {"name": name, "settings": replay_settings(source)} if "dead_letters" in tables else {}
        query = " union ".join(found) or "select null::varchar as key where false"
        return connection.execute(query, values).to_arrow_table().column(0).combine_chunks()


def replay_settings(source: Source) -> str:
    """What tells whether a replay that failed may come to something else now: the settings that judge it."""
    settings = source.model_dump_json(include=_READ_WITH | {"schema_drift"})
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def walked_values(warehouse: Warehouse, name: str, state: SourceState, paths: Sequence[str]) -> dict[str, list[str]]:
    """By dotted path: its values in the records of pages that walks read before they were cut off.

    A walk that goes on does not ask for these pages again; sources that wait for its ids need them all the same.
    """
    started = [json.loads(resume).get("started_at") for resume in state.resumes.values()]
    if not paths or not started:
        return {}
    from ingestion.readers.apis.fields import json_path

    with open_warehouse(warehouse) as connection:
        _see_loads(connection)
        found = {
            path: connection.execute(
                f"""
                select distinct json_extract_string(record, $path) as value
                from raw.{quote_identifier(name)}
                -- a page that was skipped lies in raw under an earlier load
                where value is not null and _content_hash in (
                    select content_hash from complete_loads where source = $name and loaded_at >= $started::timestamptz
                )
                order by value
                """,
                {"path": json_path(path), "name": name, "started": min(filter(None, started), default="infinity")},
            ).fetchall()
            for path in paths
        }
    return {path: [value for (value,) in values] for path, values in found.items()}


def _see_loads(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]] | None:
    """Make the view of complete loads; the columns of each table of raw, without dlt's. None where none was loaded."""
    tables: dict[str, list[str]] = dict(
        connection.execute(
            "select table_name, list(column_name order by ordinal_position) "
            "from information_schema.columns where table_schema = 'raw' group by all"
        ).fetchall()
    )
    if "load_id" not in tables.get("loads", ()) or "_dlt_loads" not in tables:
        return None
    # A warehouse of an earlier version lacks the newest columns until the next landing adds them.
    columns = [
        f"loads.{name}" if name in tables["loads"] else f"null::varchar as {name}"
        for name in (*Load.__dataclass_fields__, "_dlt_load_id")
    ]
    connection.execute(_COMPLETE.format(columns=", ".join(columns)))
    return {table: [name for name in names if not name.startswith("_dlt_")] for table, names in tables.items()}
