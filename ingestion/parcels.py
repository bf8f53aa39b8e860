"""Parcels: what readers hand to the pipeline. Rows and dead letters as parquet files, one load record about them.

A parcel is a bounded stretch of one file version, or one page of an API. It becomes visible to the models only
when all of it is in raw, and the next run starts where the last complete one ended: it is the checkpoint.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Beyond this a letter keeps the head of the record; offset and length still lead to the whole of it.
LONGEST_RECORD_KEPT = 100_000


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
    version. `resume` is JSON: where the pages after this one begin; null once there are none.
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


@dataclass(frozen=True)
class Parcel:
    """Loads with their files, which the pages of an API share; either may be absent when there is nothing for it."""

    loads: Sequence[Load]
    rows: Path | None
    row_columns: Sequence[str]
    dead_letters: Path | None

    @property
    def source(self) -> str:
        """The source that all its loads are of."""
        return self.loads[0].source

    def count(self, what: str) -> int:
        """The records read, loaded, dead_lettered or skipped, over all its loads."""
        return sum(getattr(load, f"records_{what}") for load in self.loads)

    def remove_files(self) -> None:
        """Remove the files, once raw has them or nobody wants them."""
        for file in (self.rows, self.dead_letters):
            if file is not None:
                file.unlink(missing_ok=True)

    def as_skipped(self) -> "Parcel":
        """The same loads with every record skipped and no file left."""
        self.remove_files()
        loads = [
            replace(load, records_loaded=0, records_dead_lettered=0, records_skipped=load.records_read, columns="[]")
            for load in self.loads
        ]
        return Parcel(loads, None, (), None)


def new_load_id() -> str:
    """An id that no other load has."""
    return uuid.uuid4().hex


@dataclass
class ParcelDraft:
    """A parcel that a reader is filling; `seal` checks its books and writes its dead letters."""

    batch: Batch
    source: str
    kind: str
    location: str
    content_hash: str
    load_id: str = field(default_factory=new_load_id)
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def rows_file(self) -> Path:
        """Where the reader writes the rows of this parcel."""
        return self.batch.folder / f"{self.source}.{self.load_id}.rows.parquet"

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

    def seal(
        self,
        *,
        columns: Sequence[str],
        loaded: int,
        skipped: int = 0,
        size_bytes: int,
        start_bytes: int = 0,
        position_bytes: int,
        lines: int,
        cursor: str | None = None,
    ) -> Parcel:
        """The finished parcel; every record that was read is loaded, dead-lettered or skipped."""
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
            records_read=loaded + len(self.letters) + skipped,
            records_loaded=loaded,
            records_dead_lettered=len(self.letters),
            records_skipped=skipped,
            columns=json.dumps(list(columns)),
            cursor=cursor,
            loaded_at=self.batch.loaded_at,
        )
        letters = _write_letters(self.batch.folder, [(load, letter) for letter in self.letters])
        return Parcel([load], self.rows_file if loaded else None, columns, letters)


def seal_pages(
    folder: Path, loads: Sequence[Load], rows: pa.Table, letters: Sequence[tuple[Load, DeadLetter]]
) -> Parcel:
    """The parcel of several pages, each with a load of its own; their rows share one file, their letters another.

    `rows` has the columns page (the index of a load), record and line.
    """
    columns = {
        "record": rows["record"],
        "_line": rows["line"],
        "_source": pa.repeat(loads[0].source, len(rows)),
        "_run_id": pa.repeat(loads[0].run_id, len(rows)),
        "_loaded_at": pa.repeat(pa.scalar(loads[0].loaded_at), len(rows)),
    }
    for name in ("location", "content_hash", "load_id"):
        columns[f"_{name}"] = pa.array([getattr(load, name) for load in loads], pa.string()).take(rows["page"])
    path = folder / f"{loads[0].source}.{loads[0].load_id}.rows.parquet"
    if len(rows):
        pq.write_table(pa.table(columns), path)
    return Parcel(loads, path if len(rows) else None, ["record"] if len(rows) else [], _write_letters(folder, letters))


def _write_letters(folder: Path, letters: Sequence[tuple[Load, DeadLetter]]) -> Path | None:
    if not letters:
        return None
    first = letters[0][0]
    path = folder / f"{first.source}.{first.load_id}.dead_letters.parquet"
    rows = [_letter_row(load, letter) for load, letter in letters]
    pq.write_table(pa.Table.from_pylist(rows, schema=DEAD_LETTER_SCHEMA), path)
    return path


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


def _letter_row(load: Load, letter: DeadLetter) -> dict[str, Any]:
    kept = letter.record[:LONGEST_RECORD_KEPT]
    try:
        text, exact = kept.decode(), b"\0" not in kept
    except UnicodeDecodeError:
        text, exact = "", False
    if not exact:  # readable here, and byte for byte in record_bytes
        text = kept.decode(errors="backslashreplace").replace("\0", "\\x00")
    identity = f"{load.source}\0{load.content_hash}\0{letter.line}\0{letter.byte_offset}\0{letter.reason}"
    return {
        **{name: value for name, value in asdict(letter).items() if name != "record"},
        "dead_letter_id": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "load_id": load.load_id,
        "run_id": load.run_id,
        "source": load.source,
        "location": load.location,
        "content_hash": load.content_hash,
        "record": text,
        "record_bytes": None if exact else kept,
        "occurred_at": load.loaded_at,
    }
