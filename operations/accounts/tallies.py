"""Counts and checksums for the books, from raw, the outcomes models and the marts.

A checksum is the sum of DuckDB's hashes of what tells records apart, whatever their order: for a record its content
hash and line, for a mart its keys or whole rows. It holds for one version of DuckDB.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from foundation.errors import BooksError
from foundation.queries import IS_COMPLETE
from foundation.warehouse import quote_identifier

OUTCOMES = "outcomes_"
_NEEDED = ("load_id", "source", "content_hash", "outcome", "line")

# A crash can write the row of a load twice.
COMPLETE_LOADS = f"""
        select distinct on (load_id) loads.* from raw.loads as loads where {IS_COMPLETE}
"""
# Complete loads that no balanced book holds: of this run, and of earlier ones that were cut off, stopped or did not
# balance. They stay open until a book balances with them in it, so an imbalance does not heal by running again.
_OPEN_LOADS = """
    create or replace temp table open_loads as
    with complete_loads as (
        {complete_loads} and load_id not in (select load_id from ops.booked_loads where run_id <> $run_id)
    )
    select
        load_id, source, {part} as part, loaded_at, records_read, records_skipped,
        -- a file that went from A to B and back to A before any book was closed: only the last A counts
        row_number() over (
            partition by source, content_hash, start_bytes, position_bytes, records_skipped < records_read
            order by loaded_at desc, load_id desc
        ) > 1 as is_repeat
    from complete_loads
"""
_NO_LOADS = "create or replace temp table open_loads (load_id varchar, source varchar, part varchar)"

Place = tuple[str, str]  # a source, and one of its partitions or ''


@dataclass(frozen=True)
class Tally:
    """How many, and which: a sum of hashes."""

    count: int = 0
    checksum: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.count + other.count, self.checksum + other.checksum)


@dataclass(frozen=True)
class MartKey:
    """The one column that is a mart's key, and its value in the row that stands for what no record tells of."""

    column: str
    unknown_member: str | None = None


@dataclass(frozen=True)
class MartTally:
    """A mart's rows; its keys, and those of the records that are accepted, where an outcomes model leads to it.

    `keys` are without that of the unknown member, `accepted` of open loads, `kept` of those that a balanced book holds.
    """

    mart: str
    rows: Tally
    keys: Tally | None = None
    accepted: Tally = Tally()
    kept: Tally = Tally()


@dataclass(frozen=True)
class Counted:
    """What was counted of the open loads, and of all marts. `known` are the sources that an outcomes model counts."""

    read: Mapping[Place, tuple[int, int]] = field(default_factory=dict)  # read, and skipped of these
    letters: Mapping[Place, Tally] = field(default_factory=dict)
    outcomes: Mapping[Place, Mapping[str, Tally]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    marts: Mapping[str, MartTally] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()


def count(connection: duckdb.DuckDBPyConnection, run_id: str, keys: Mapping[str, MartKey]) -> Counted:
    """Count all but what is in the tables of raw; `keys` are those of the marts that have one of one column.

    The temporary table open_loads holds the loads that it is about.
    """
    columns = _columns(connection)
    if not {"raw.loads", "raw._dlt_loads"} <= columns.keys():
        connection.execute(_NO_LOADS)
        return Counted(tables=frozenset(columns))
    part = "coalesce(partition, '')" if "partition" in columns["raw.loads"] else "''"
    connection.execute(_OPEN_LOADS.format(complete_loads=COMPLETE_LOADS, part=part), {"run_id": run_id})
    outcomes: dict[Place, dict[str, Tally]] = {}
    known: set[str] = set()
    marts: dict[str, MartTally] = {}
    # By mart: accepted of open loads, and kept.
    accepted: dict[str, tuple[Tally, Tally]] = {}
    for mart in _marts(columns):
        if mart.startswith(OUTCOMES):
            marts[mart] = _judged(connection, mart, columns, outcomes, known, accepted)
    for mart in _marts(columns):
        if not mart.startswith(OUTCOMES):
            marts[mart] = _mart(connection, mart, columns[f"marts.{mart}"], keys.get(mart), accepted.get(mart))
    return Counted(
        read=_read(connection),
        letters=_letters(connection) if "raw.dead_letters" in columns else {},
        outcomes=outcomes,
        known=frozenset(known),
        marts=marts,
        tables=frozenset(columns),
    )


def mart_rows(connection: duckdb.DuckDBPyConnection) -> dict[str, Tally]:
    """Count and checksum of the rows of every mart."""
    columns = _columns(connection)
    return {mart: _mart(connection, mart, columns[f"marts.{mart}"]).rows for mart in _marts(columns)}


def loaded(connection: duckdb.DuckDBPyConnection, source: str, *, is_distinct: bool) -> dict[str, Tally]:
    """By partition, the rows in raw of the open loads of one source.

    With `is_distinct`, one that a crash or a copy of its file had loaded again counts once, for its latest load: that
    needs memory or disk for every record, and is asked for only where the rows as they are do not add up.
    """
    identity = "_content_hash::varchar as content_hash, _line::bigint as line"
    rows = f"select {identity}, part from raw.{quote_identifier(source)} inner join open_loads on _load_id = load_id"
    if is_distinct:
        newest = "arg_max(part, (loads.loaded_at, load_id)) as part"
        rows = (
            f"select {identity}, {newest} from raw.{quote_identifier(source)} "
            "inner join open_loads as loads on _load_id = load_id group by _content_hash::varchar, _line::bigint"
        )
    return {
        part: Tally(*tally)
        for part, *tally in connection.execute(
            f"select part, count(*), sum(hash(content_hash, line)) from ({rows}) group by part"
        ).fetchall()
    }


def booked_loads(connection: duckdb.DuckDBPyConnection) -> Tally:
    """All loads that a balanced book holds."""
    return _tally(connection, "select count(*), sum(hash(load_id)) from ops.booked_loads")


def one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    """The one number of a query."""
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _read(connection: duckdb.DuckDBPyConnection) -> dict[Place, tuple[int, int]]:
    found = connection.execute(
        "select source, part, sum(records_read)::bigint, "
        "sum(case when is_repeat then records_read else records_skipped end)::bigint from open_loads group by all"
    ).fetchall()
    return {(source, part): (read, skipped) for source, part, read, skipped in found}


def _letters(connection: duckdb.DuckDBPyConnection) -> dict[Place, Tally]:
    """A letter of a file that was read again counts once, for its latest load."""
    found = connection.execute(
        """
        with letters as (
            select loads.source, letters.dead_letter_id, arg_max(loads.part, (loads.loaded_at, loads.load_id)) as part
            from raw.dead_letters as letters
            inner join open_loads as loads on letters.load_id = loads.load_id
            group by all
        )
        select source, part, count(*), sum(hash(dead_letter_id)) from letters group by all
        """
    ).fetchall()
    return {(source, part): Tally(*tally) for source, part, *tally in found}


def _judged(
    connection: duckdb.DuckDBPyConnection,
    model: str,
    tables: Mapping[str, Sequence[str]],
    outcomes: dict[Place, dict[str, Tally]],
    known: set[str],
    accepted: dict[str, tuple[Tally, Tally]],
) -> MartTally:
    """Add an outcomes model, in one pass, to `outcomes`, `known` and the keys `accepted`; its rows.

    Its records lead to the mart that its column `mart` names, or else to that of its own name. Raises BooksError.
    """
    columns = tables[f"marts.{model}"]
    if missing := [name for name in _NEEDED if name not in columns]:
        raise BooksError(
            f"{model} has no column {missing[0]}",
            where=f"marts.{model}",
            fix=f"an outcomes model has {', '.join(_NEEDED)} (dbt_project/README.md)",
        )
    has_key, has_mart = "record_key" in columns, "mart" in columns
    key = "record_key::varchar" if has_key else "null"
    mart = "null"
    if has_key and has_mart:
        mart = "mart::varchar"
    elif has_key:
        mart = f"'{model.removeprefix(OUTCOMES)}'"
        accepted.setdefault(model.removeprefix(OUTCOMES), (Tally(), Tally()))  # also of an empty model
    found = connection.execute(
        f"""
        select
            judged.source, loads.part, outcome, {mart} as leads_to, count(*),
            sum(hash(judged.content_hash::varchar, judged.line::bigint)),
            sum(hash({key})),
            sum(hash({_listed(columns, "judged.")}))
        from marts.{quote_identifier(model)} as judged
        left join open_loads as loads on judged.load_id = loads.load_id
        group by all
        """
    ).fetchall()
    rows = Tally()
    for source, part, outcome, leads_to, records, identity, record_keys, whole in found:
        known.add(source)
        rows += Tally(records, whole)
        if part is not None:
            of_place = outcomes.setdefault((source, part), {})
            of_place[outcome] = of_place.get(outcome, Tally()) + Tally(records, identity)
        if leads_to is not None:
            if has_mart and f"marts.{leads_to}" not in tables:
                raise BooksError(
                    f"{model} leads to the mart {leads_to}, and there is none of that name",
                    where=f"marts.{model}, column mart",
                    fix="name the mart that has a row for each accepted record, or none (null)",
                )
            new, kept = accepted.get(leads_to, (Tally(), Tally()))
            more = Tally(records, record_keys) if outcome == "accepted" else Tally()
            accepted[leads_to] = (new, kept + more) if part is None else (new + more, kept)
    return MartTally(model, rows)


def _mart(
    connection: duckdb.DuckDBPyConnection,
    mart: str,
    columns: Sequence[str],
    key: MartKey | None = None,
    accepted: tuple[Tally, Tally] | None = None,
) -> MartTally:
    counted = f"count(*), sum(hash({_listed(columns)}))"
    if key is None or key.column not in columns or accepted is None:
        return MartTally(mart, _tally(connection, f"select {counted} from marts.{quote_identifier(mart)}"))
    column = f"{quote_identifier(key.column)}::varchar"
    known, values = "true", {}
    if key.unknown_member is not None:
        known, values = f"{column} is distinct from $unknown", {"unknown": key.unknown_member}
    row = connection.execute(
        f"select {counted}, count(*) filter (where {known}), sum(hash({column})) filter (where {known}) "
        f"from marts.{quote_identifier(mart)}",
        values,
    ).fetchone()
    assert row is not None
    return MartTally(mart, Tally(row[0], row[1] or 0), Tally(row[2], row[3] or 0), *accepted)


def _tally(connection: duckdb.DuckDBPyConnection, query: str) -> Tally:
    row = connection.execute(query).fetchone()
    return Tally(row[0], row[1] or 0) if row else Tally()


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Every table and view of raw and marts, with its columns in their order."""
    found = connection.execute(
        """
        select table_schema || '.' || table_name, list(column_name order by ordinal_position)
        from information_schema.columns
        where table_catalog = current_database() and table_schema in ('raw', 'marts')
        group by all
        """
    ).fetchall()
    return dict(found)


def _marts(columns: Mapping[str, Any]) -> list[str]:
    return sorted(name.removeprefix("marts.") for name in columns if name.startswith("marts."))


def _listed(columns: Iterable[str], prefix: str = "") -> str:
    return ", ".join(prefix + quote_identifier(name) for name in columns)
