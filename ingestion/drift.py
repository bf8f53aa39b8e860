"""Schema drift: what a source's records look like against how they looked before, and what to do about it."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foundation.errors import SourceError
from foundation.sources import AnySource
from foundation.warehouse import quote_identifier, quote_literal
from ingestion.parcels import DEAD_LETTER_SCHEMA, Parcel
from ingestion.readers.json_files.bits import Context, scan
from ingestion.readers.json_files.records import Records
from ingestion.readers.json_files.shapes import ABSENT, Shapes
from ingestion.state import SourceState

# Of many reasons in one parcel, so many are told.
MOST_TOLD = 3
Notice = Callable[[str, str], None]


class SchemaContract:
    """The columns and field types of a source as met so far, and its policy on drift; several threads ask and tell."""

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
        parcel = self._check_pages(parcel)
        self._report_letters(parcel, notice)
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
            raise self._frozen(problem, place)
        notice(self._name, f"schema drift in {place}: {problem}")
        if self._policy == "evolve":
            return parcel
        values = ", ".join(f"{quote_identifier(name)} := {quote_identifier(name)}" for name in parcel.row_columns)
        return _set_aside(parcel, parcel.rows, problem, f"to_json(struct_pack({values}))::varchar")

    def _check_pages(self, parcel: Parcel) -> Parcel:
        """Pages with the types of the fields of their records, and without the records that may not go on."""
        if parcel.rows is None or parcel.loads[0].kind != "api":
            return parcel
        with duckdb.connect(config={"threads": 1}) as connection:
            rows = parcel.rows
            count = rows.num_rows
            shapes = _record_shapes(connection, rows["record"])
            shapes.choose(np.arange(count))
            expected = self.expected_fields if self._policy != "evolve" else {}
            is_good = np.ones(count, bool)
            for message, drifted in shapes.drift(expected) if expected else ():
                if self._policy == "freeze":
                    raise self._frozen(message, parcel.loads[0].location)
                is_good[drifted] = False
                parcel = _set_aside(parcel, rows.take(pa.array(drifted)), message, "record")
            rows = rows.filter(pa.array(is_good))
            shapes.choose(np.flatnonzero(is_good))
            fields = shapes.fields() if is_good.any() else None
        loads = [replace(load, fields=fields if load.records_loaded else None) for load in parcel.loads]
        return replace(parcel, loads=loads, rows=rows if rows.num_rows else None)

    def _report_letters(self, parcel: Parcel, notice: Notice) -> None:
        # Of a CSV file its reader tells it, once for all parcels.
        if parcel.dead_letters is None or self._policy != "dead_letter" or parcel.loads[0].kind == "csv":
            return
        letters = parcel.dead_letters.filter(pc.equal(parcel.dead_letters["reason"], "schema_drift"))
        for message in pc.unique(letters["message"]).to_pylist()[:MOST_TOLD]:
            notice(self._name, f"schema drift in {parcel.loads[0].location}: {message}; set aside")

    def _frozen(self, problem: str, place: str) -> SourceError:
        return SourceError(
            f"{self._name}: {problem}; nothing of it is loaded",
            where=place,
            fix="mend the source, or set schema_drift: evolve in penstock.yml",
        )

    def _report_columns(self, parcel: Parcel, notice: Notice) -> None:
        now, place = list(parcel.row_columns), parcel.loads[0].location
        usual = self._columns.get(place) or self._latest
        # Sets, because tables may have thousands of columns and every parcel is looked at.
        before, after = set(usual), set(now)
        added, gone = [name for name in now if name not in before], [name for name in usual if name not in after]
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


def _record_shapes(connection: duckdb.DuckDBPyConnection, records: pa.ChunkedArray) -> Shapes:
    texts = records.cast(pa.large_string()).combine_chunks()
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    found = Records(data.to_pybytes(), places[:-1], places[1:], np.arange(len(texts)))
    return Shapes(connection, found, scan(found.data, Context(), 0))


def _set_aside(parcel: Parcel, rows: pa.Table, problem: str, record: str) -> Parcel:
    """The parcel with these rows as dead letters; `record` is SQL for the text of one."""
    source = quote_literal(parcel.source)
    # A connection of its own: readers of other sources are in other threads.
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("found", rows)
        letters = connection.execute(f"""
            select
                sha256(concat_ws(chr(0), {source}, _content_hash, _line, 'None', 'schema_drift'))[:32]
                    as dead_letter_id,
                _load_id as load_id, {quote_literal(parcel.loads[0].run_id)} as run_id, {source} as source,
                'parse' as stage, _location as location, _content_hash as content_hash, _line as line,
                null::bigint as byte_offset, null::bigint as byte_length, null::bigint as page,
                'schema_drift' as reason, {quote_literal(problem)} as message, {record} as record,
                null::blob as record_bytes, 1::bigint as attempts, _loaded_at as occurred_at
            from found
        """).to_arrow_table()
    letters = letters.select(DEAD_LETTER_SCHEMA.names).cast(DEAD_LETTER_SCHEMA)
    counts = {each["values"]: each["counts"] for each in pc.value_counts(letters["load_id"]).to_pylist()}
    loads = [
        replace(
            load,
            records_loaded=load.records_loaded - counts.get(load.load_id, 0),
            records_dead_lettered=load.records_dead_lettered + counts.get(load.load_id, 0),
        )
        for load in parcel.loads
    ]
    before = parcel.dead_letters
    return replace(
        parcel, loads=loads, rows=None, dead_letters=letters if before is None else pa.concat_tables([before, letters])
    )
