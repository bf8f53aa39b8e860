"""Parcels: what readers hand to the pipeline. Rows and dead letters as Arrow tables, and load records about them.

A parcel is a bounded stretch of one file version, or one page of an API. It becomes visible to the models only
when all of it is in raw, and the next run starts where the last complete one ended: it is the checkpoint.
"""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Beyond this a letter keeps the head of the record; offset and length still lead to the whole of it.
LONGEST_RECORD_KEPT = 100_000
FEW_LETTERS = 1_000


DEAD_LETTER_SCHEMA = pa.schema(
    [
        ("dead_letter_id", pa.string()),
        ("load_id", pa.string()),
        ("run_id", pa.string()),
        ("source", pa.string()),
        ("stage", pa.string()),
        ("location", pa.string()),
        ("content_hash", pa.string()),
        ("line", pa.int64()),
        ("byte_offset", pa.int64()),
        ("byte_length", pa.int64()),
        ("page", pa.int64()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("record", pa.string()),
        ("record_bytes", pa.binary()),
        ("attempts", pa.int64()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
    ]
)
# What every row carries of where it came from. The rest is in raw.loads: a text in every row is some 5% of an ingest.
LINEAGE_SCHEMA = pa.schema(
    [
        ("_location", pa.dictionary(pa.int32(), pa.string())),
        ("_content_hash", pa.dictionary(pa.int32(), pa.string())),
        ("_line", pa.int64()),
        ("_load_id", pa.dictionary(pa.int32(), pa.string())),
        ("_loaded_at", pa.timestamp("us", tz="UTC")),
    ]
)
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """What one ingest run stamps on everything it reads."""

    run_id: str
    loaded_at: datetime
    folder: Path


@dataclass(frozen=True)
class DeadLetter:
    """One record that could not be fetched or parsed: its bytes, its place and the reason."""

    reason: str
    message: str
    record: bytes
    line: int | None = None
    byte_offset: int | None = None
    byte_length: int | None = None
    page: int | None = None
    stage: str = "parse"
    attempts: int = 1


@dataclass(frozen=True)
class Load:
    """One row of raw.loads: a stretch of a file version, or a page, that a run read.

    A stretch that starts at 0 begins a new version of its file, which takes the place of the one before. `fields` is
    JSON: what a record held, name to types, where raw has it whole. `token` is what the store says of the file's
    version; "whole" at the last page of an API that was read to its end. `resume` is JSON: where the pages after this
    one begin; null once there are none. `dialect` is JSON: how a CSV file was read, {} where it showed no table.
    """

    load_id: str
    run_id: str
    source: str
    kind: str
    location: str
    content_hash: str
    size_bytes: int
    start_bytes: int
    position_bytes: int
    lines: int
    records_read: int
    records_loaded: int
    records_dead_lettered: int
    records_skipped: int
    columns: str
    cursor: str | None
    loaded_at: datetime
    partition: str = ""
    fields: str | None = None
    token: str | None = None
    resume: str | None = None
    dialect: str | None = None


@dataclass(frozen=True)
class Parcel:
    """Loads with their rows and dead letters, which the pages of an API share; None where there are none."""

    loads: Sequence[Load]
    rows: pa.Table | None
    row_columns: Sequence[str]
    dead_letters: pa.Table | None

    @property
    def source(self) -> str:
        """The source that all its loads are of."""
        return self.loads[0].source

    def count(self, what: str) -> int:
        """The records read, loaded, dead_lettered or skipped, over all its loads."""
        return sum(int(getattr(load, f"records_{what}")) for load in self.loads)

    def unanswered(self) -> Counter[str]:
        """How many ids of a for_each source got no usable answer, by reason: their letters stand for no item."""
        if self.dead_letters is None:
            return Counter()
        reasons = self.dead_letters.filter(pc.is_null(self.dead_letters["line"]))["reason"]
        return Counter({str(each["values"]): int(each["counts"].as_py()) for each in pc.value_counts(reasons)})

    def skipping(self, load_ids: Sequence[str]) -> "Parcel":
        """The same with every record of these loads skipped."""
        loads = [
            replace(load, records_loaded=0, records_dead_lettered=0, records_skipped=load.records_read, columns="[]")
            if load.load_id in load_ids
            else load
            for load in self.loads
        ]
        rows, letters = _without(self.rows, "_load_id", load_ids), _without(self.dead_letters, "load_id", load_ids)
        return Parcel(loads, rows, self.row_columns if rows is not None else (), letters)


def new_load_id() -> str:
    """An id that no other load has."""
    return uuid.uuid4().hex


@dataclass
class ParcelDraft:
    """A parcel that a reader is filling; `seal` closes its books."""

    batch: Batch
    source: str
    kind: str
    location: str
    content_hash: str
    dialect: str | None = None
    load_id: str = field(default_factory=new_load_id)
    letters: list[DeadLetter] = field(default_factory=list)
    _bulk: list[pa.Table] = field(default_factory=list)
    _rows: list[pa.Table] = field(default_factory=list)

    def lineage(self) -> dict[str, Any]:
        """The lineage columns that are the same for every row; a reader adds `_line`."""
        return {
            "_source": self.source,
            "_location": self.location,
            "_content_hash": self.content_hash,
            "_load_id": self.load_id,
            "_run_id": self.batch.run_id,
            "_loaded_at": self.batch.loaded_at,
        }

    def add_rows(self, rows: pa.Table, lines: Numbers | int) -> None:
        """Rows for this parcel, which get their lineage; row i came from line lines[i], or `lines` + i."""
        numbers = np.arange(lines, lines + rows.num_rows) if isinstance(lines, int) else lines
        self._rows.append(with_lineage(rows, [self.lineage()], np.zeros(rows.num_rows, np.int32), numbers))

    @property
    def count_letters(self) -> int:
        """Records set aside so far."""
        return len(self.letters) + sum(int(table.num_rows) for table in self._bulk)

    def add_letters(
        self, reason: str, message: str, *, records: pa.Array, lines: Numbers, offsets: Numbers, lengths: Numbers
    ) -> None:
        """Set many records aside for one reason; `records` holds their bytes."""
        try:
            texts = pc.binary_slice(records, 0, LONGEST_RECORD_KEPT).cast(pa.large_string())
        except pa.ArrowInvalid:
            texts = None
        # A hundred thousand hashes are worth a database of their own, a few are not.
        is_few = len(records) < FEW_LETTERS
        if is_few or texts is None or pc.any(pc.match_substring(texts, "\0")).as_py():
            self.letters += [
                DeadLetter(reason, message, record, int(line), int(offset), int(length))
                for record, line, offset, length in zip(records.to_pylist(), lines, offsets, lengths, strict=True)
            ]
            return
        identity = [self.source, self.content_hash, pa.array(lines), pa.array(offsets), reason]
        columns: dict[str, Any] = {
            "_identity": pc.binary_join_element_wise(*[_text(part, len(records)) for part in identity], "\0"),
            "line": pa.array(lines),
            "byte_offset": pa.array(offsets),
            "byte_length": pa.array(lengths),
            "record": texts,
        }
        constants = _letter_constants(self.lineage()) | {
            "stage": "parse",
            "attempts": 1,
            "reason": reason,
            "message": message,
        }
        with duckdb.connect() as connection:
            connection.register("letters", pa.table(columns))
            self._bulk.append(
                connection.execute(
                    "select sha256(_identity)[:32] as dead_letter_id, * exclude (_identity), "
                    + ", ".join(f"${name} as {name}" for name in constants)
                    + " from letters",
                    constants,
                ).to_arrow_table()
            )

    def seal(
        self,
        *,
        columns: Sequence[str],
        skipped: int = 0,
        size_bytes: int,
        start_bytes: int = 0,
        position_bytes: int,
        lines: int,
        cursor: str | None = None,
    ) -> Parcel:
        """The finished parcel; every record that was read is loaded, dead-lettered or skipped."""
        loaded = sum(int(rows.num_rows) for rows in self._rows)
        load = Load(
            load_id=self.load_id,
            run_id=self.batch.run_id,
            source=self.source,
            kind=self.kind,
            location=self.location,
            content_hash=self.content_hash,
            size_bytes=size_bytes,
            start_bytes=start_bytes,
            position_bytes=position_bytes,
            lines=lines,
            records_read=loaded + self.count_letters + skipped,
            records_loaded=loaded,
            records_dead_lettered=self.count_letters,
            records_skipped=skipped,
            columns=json.dumps(list(columns)),
            cursor=cursor,
            loaded_at=self.batch.loaded_at,
            dialect=self.dialect,
        )
        return Parcel([load], pa.concat_tables(self._rows) if loaded else None, columns, self._letters())

    def _letters(self) -> pa.Table | None:
        if not self.count_letters:
            return None
        lineage = self.lineage()
        singles = letter_table([(lineage, letter) for letter in self.letters])
        # Columns that a table lacks are null.
        bulk = [
            pa.table(
                [
                    table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind)
                    for name, kind in zip(DEAD_LETTER_SCHEMA.names, DEAD_LETTER_SCHEMA.types, strict=True)
                ],
                schema=DEAD_LETTER_SCHEMA,
            )
            for table in self._bulk
        ]
        return pa.concat_tables([singles, *bulk])


def seal_pages(loads: Sequence[Load], rows: pa.Table, letters: Sequence[tuple[Load, DeadLetter]]) -> Parcel:
    """The parcel of several pages, each with a load of its own.

    `rows` has the columns page (the index of a load), record and line.
    """
    lineages = [lineage_of(load) for load in loads]
    records = None
    if rows.num_rows:
        records = with_lineage(rows.select(["record"]), lineages, rows["page"].to_numpy(), rows["line"].to_numpy())
    dead_letters = letter_table([(lineage_of(load), letter) for load, letter in letters]) if letters else None
    return Parcel(loads, records, ["record"] if records else [], dead_letters)


def lineage_of(load: Load) -> dict[str, Any]:
    """The lineage columns that all rows of a load share."""
    return {
        "_source": load.source,
        "_location": load.location,
        "_content_hash": load.content_hash,
        "_load_id": load.load_id,
        "_run_id": load.run_id,
        "_loaded_at": load.loaded_at,
    }


def with_lineage(
    rows: pa.Table, lineages: Sequence[Mapping[str, Any]], which: NDArray[np.integer[Any]], lines: Numbers
) -> pa.Table:
    """`rows` with their lineage columns; row i is of lineages[which[i]] and came from lines[i]."""
    indices = pa.array(which, pa.int32())
    for name, kind in zip(LINEAGE_SCHEMA.names, LINEAGE_SCHEMA.types, strict=True):
        if name == "_line":
            column = pa.array(lines, kind)
        elif pa.types.is_dictionary(kind):
            column = pa.DictionaryArray.from_arrays(indices, pa.array([each[name] for each in lineages], pa.string()))
        else:
            column = pa.array([each[name] for each in lineages], kind).take(indices)
        rows = rows.append_column(name, column)
    return rows


def letter_table(letters: Sequence[tuple[Mapping[str, Any], DeadLetter]]) -> pa.Table:
    """Dead letters, each with the lineage of what it was in, as rows of raw.dead_letters."""
    return pa.Table.from_pylist([_letter_row(lineage, letter) for lineage, letter in letters], DEAD_LETTER_SCHEMA)


def _letter_row(lineage: Mapping[str, Any], letter: DeadLetter) -> dict[str, Any]:
    kept = letter.record[:LONGEST_RECORD_KEPT]
    try:
        text, exact = kept.decode(), b"\0" not in kept
    except UnicodeDecodeError:
        text, exact = "", False
    if not exact:  # readable here, and byte for byte in record_bytes
        text = kept.decode(errors="backslashreplace").replace("\0", "\\x00")
    identity = [lineage["_source"], lineage["_content_hash"], letter.line, letter.byte_offset, letter.reason]
    return {
        **{name: value for name, value in vars(letter).items() if name != "record"},
        **_letter_constants(lineage),
        "dead_letter_id": hashlib.sha256("\0".join(map(str, identity)).encode()).hexdigest()[:32],
        "record": text,
        "record_bytes": None if exact else kept,
    }


def _letter_constants(lineage: Mapping[str, Any]) -> dict[str, Any]:
    names = {"_loaded_at": "occurred_at"}
    return {names.get(name, name[1:]): value for name, value in lineage.items()}


def _without(table: pa.Table | None, column: str, values: Sequence[str]) -> pa.Table | None:
    if table is None:
        return None
    kept = table.filter(pc.invert(pc.is_in(table[column].cast(pa.string()), pa.array(values, pa.string()))))
    return kept if kept.num_rows else None


def _text(part: Any, count: int) -> pa.Array:
    """`part` as an array of `count` texts."""
    return part.cast(pa.string()) if isinstance(part, pa.Array) else pa.repeat(pa.scalar(part, pa.string()), count)
