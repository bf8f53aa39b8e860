"""Schema drift: what a source's records look like against how they looked before, and what to do about it."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from foundation.errors import SourceError
from foundation.sources import AnySource
from foundation.warehouse import quote_identifier, quote_literal
from ingestion.parcels import DEAD_LETTER_SCHEMA, Parcel
from ingestion.state import SourceState

# A record that lacks a field: a type of its own among those that the field has had.
ABSENT = "absent"
Notice = Callable[[str, str], None]


class Shapes:
    """The columns of a source and the types of its fields, as met so far; several threads ask and tell."""

    def __init__(self, name: str, source: AnySource, state: SourceState) -> None:
        self._name, self._policy = name, source.schema_drift
        self._declared: Sequence[str] = getattr(source, "columns", [])
        self._columns: dict[str, Sequence[str]] = {place: names for place, names in state.columns.items() if names}
        self._latest: Sequence[str] = self._declared or next(reversed(list(self._columns.values())), ())
        self._fields: dict[str, set[str]] = {}
        for fields in state.fields.values():
            self._learn(fields)
        self._lock = threading.Lock()

    @property
    def expected_columns(self) -> Sequence[str]:
        """What a file is expected to have."""
        return self._latest

    @property
    def expected_fields(self) -> Mapping[str, Sequence[str]]:
        """The types that each field of a record has had."""
        with self._lock:
            return {name: sorted(types) for name, types in self._fields.items()}

    def check(self, parcel: Parcel, notice: Notice) -> Parcel:
        """The parcel as it may go on; what is new, gone or changed is told.

        Raises SourceError where the source is frozen and something is gone or changed.
        """
        if parcel.rows is None:
            return parcel
        with self._lock:
            self._report_columns(parcel, notice)
            fields: dict[str, Sequence[str]] = {}
            for load in parcel.loads:
                for name, types in json.loads(load.fields or "{}").items():
                    fields[name] = sorted({*fields.get(name, ()), *types})
            changed = self._changes(fields)
            new = [name for name in fields if name not in self._fields] if self._fields else []
            if self._policy == "evolve" or not changed:
                self._learn(fields)
        place = parcel.loads[0].location
        if new and parcel.row_columns == ["record"]:
            notice(self._name, f"schema drift in {place}: new fields {', '.join(new)}")
        if not changed:
            return parcel
        problem = "; ".join(changed)
        if self._policy == "freeze":
            raise SourceError(
                f"{self._name}: {problem}; nothing of it is loaded",
                where=place,
                fix="mend the source, or set schema_drift: evolve in penstock.yml",
            )
        notice(self._name, f"schema drift in {place}: {problem}")
        return _set_aside(parcel, problem) if self._policy == "dead_letter" else parcel

    def _report_columns(self, parcel: Parcel, notice: Notice) -> None:
        now, place = list(parcel.row_columns), parcel.loads[0].location
        usual = self._columns.get(place) or self._latest
        added, gone = [name for name in now if name not in usual], [name for name in usual if name not in now]
        if usual and (added or gone):
            parts = [f"new columns {', '.join(added)}"] if added else []
            parts += [f"columns gone {', '.join(gone)}"] if gone else []
            notice(self._name, f"schema drift in {place}: {'; '.join(parts)}")
        self._columns[place] = now
        self._latest = self._declared or now

    def _changes(self, fields: Mapping[str, Sequence[str]]) -> list[str]:
        found = []
        for name, before in self._fields.items():
            now = set(fields.get(name, [ABSENT])) if fields else before
            for kind in sorted(now - before):
                if kind == ABSENT:
                    found.append(f"{name} is gone from some records" if len(now) > 1 else f"{name} is gone")
                elif before != {ABSENT}:
                    found.append(f"{name} was {' or '.join(sorted(before - {ABSENT}))} and is now {kind}")
        return found

    def _learn(self, fields: Mapping[str, Sequence[str]]) -> None:
        known = bool(self._fields)
        for name, types in fields.items():
            # A field that comes up later was absent before.
            self._fields.setdefault(name, {ABSENT} if known else set()).update(types)
        for name in self._fields.keys() - fields.keys() if fields else ():
            self._fields[name].add(ABSENT)


def _set_aside(parcel: Parcel, problem: str) -> Parcel:
    """The parcel with every row as a dead letter, as JSON."""
    assert parcel.rows is not None
    values = ", ".join(f"{quote_identifier(name)} := {quote_identifier(name)}" for name in parcel.row_columns)
    found = duckdb.from_arrow(parcel.rows).query(
        "found",
        f"""
        select
            sha256(concat_ws(chr(0), _source, _content_hash, _line, 'None', 'schema_drift'))[:32] as dead_letter_id,
            _load_id as load_id, _run_id as run_id, _source as source, 'parse' as stage, _location as location,
            _content_hash as content_hash, _line as line, null::bigint as byte_offset, null::bigint as byte_length,
            null::bigint as page, 'schema_drift' as reason, {quote_literal(problem)} as message,
            to_json(struct_pack({values}))::varchar as record, null::blob as record_bytes, 1::bigint as attempts,
            _loaded_at as occurred_at
        from found
        """,
    )
    letters = found.to_arrow_table().select(DEAD_LETTER_SCHEMA.names).cast(DEAD_LETTER_SCHEMA)
    loads = [
        replace(load, records_loaded=0, records_dead_lettered=load.records_dead_lettered + load.records_loaded)
        for load in parcel.loads
    ]
    before = parcel.dead_letters
    return replace(
        parcel, loads=loads, rows=None, dead_letters=letters if before is None else pa.concat_tables([before, letters])
    )
