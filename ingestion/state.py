"""What earlier runs have read, as raw itself tells: the complete rows of raw.loads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foundation.warehouse import open_warehouse
from ingestion.readers.framing import KnownPrefix

# Of a location only its latest load counts: a file that went from A to B and back to A is new each time.
_LATEST = """
    select source, location, content_hash, position_bytes, lines, columns
    from (
        select loads.*, row_number() over (
            partition by source, location order by loads.loaded_at desc, position_bytes desc, _dlt_load_id desc
        ) as newest
        from raw.loads as loads
        where exists (
            select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and done.status = 0
        )
    )
    where newest = 1
    order by source, location
"""
_CURSORS = """
    select source, arg_max(cursor, (loads.loaded_at, loads._dlt_load_id))
    from raw.loads as loads
    where cursor is not null and exists (
        select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and done.status = 0
    )
    group by source
"""


@dataclass(frozen=True)
class SourceState:
    """Where reading of one source stands and what columns it had, per location, and the API cursor."""

    prefixes: Mapping[str, KnownPrefix] = field(default_factory=dict)
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cursor: str | None = None


def read_state(warehouse: Path) -> dict[str, SourceState]:
    """The state of every source that has been read, by name; empty when the warehouse is new."""
    if not warehouse.exists():
        return {}
    with open_warehouse(warehouse) as connection:
        there = connection.execute(
            "select count(*) from information_schema.tables "
            "where table_schema = 'raw' and table_name in ('loads', '_dlt_loads')"
        ).fetchone()
        if there != (2,):
            return {}
        latest = connection.execute(_LATEST).fetchall()
        cursors = dict(connection.execute(_CURSORS).fetchall())
    prefixes: dict[str, dict[str, KnownPrefix]] = {}
    columns: dict[str, dict[str, list[str]]] = {}
    for source, location, content_hash, position, lines, names in latest:
        prefixes.setdefault(source, {})[location] = KnownPrefix(position, lines, content_hash)
        columns.setdefault(source, {})[location] = json.loads(names or "[]")
    return {source: SourceState(known, columns[source], cursors.get(source)) for source, known in prefixes.items()}
