"""Parquet files: every value as text, row groups in turn, a bounded stretch of rows a parcel.

Arrow decodes and DuckDB writes the text. DuckDB alone would read decimals of more than 38 digits as floats, and cut
nanoseconds from times of day and from moments with a zone, without a word (seen with 1.5.5).
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from foundation.sources import ParquetSource
from foundation.warehouse import quote_identifier
from ingestion.names import raw_columns
from ingestion.parcels import Batch, DeadLetter, Parcel, ParcelDraft
from ingestion.readers.framing import KnownPrefix
from ingestion.readers.parquet_files.text import as_text, readable, unfit_rows
from ingestion.stores import StoredFile

PARCEL_ROWS = 250_000
PARCEL_BYTES = 64 * 1024 * 1024
# Decoded at a time; what a dictionary keeps small in the file may be large, so the first rows of a group are weighed.
BATCH_ROWS, BATCH_BYTES = 8_192, 16 * 1024 * 1024
WEIGHED_ROWS = 256
# Of rows that DuckDB refuses, a stretch as short as this is set aside as one.
SMALLEST_STRETCH = 500
_BLOCK_BYTES = 4 * 1024 * 1024
Notice = Callable[[str], None]


def read_parquet_file(
    file: StoredFile,
    name: str,
    source: ParquetSource,  # noqa: ARG001 - it has no settings of its own, and the readers are called alike
    known: KnownPrefix | None,
    batch: Batch,
    notice: Notice,
) -> Iterator[Parcel]:
    """The parcels of what is new in a Parquet file; none when nothing is. Raises SourceError when it cannot be read.

    The hash of every parcel is that of the whole file, `lines` are the rows done: a row is known by hash and number,
    and a version that was read in part is read on. Its position in bytes is only a share of the size, since the columns
    of a row lie apart.
    """
    copy = batch.folder / f"{name}.{ParcelDraft(batch, name, 'parquet', file.location, '').load_id}.parquet"
    try:
        content_hash, size = _fetch(file, copy)
        done = 0
        if known is not None and known.content_hash == content_hash:
            if known.position_bytes >= size:
                return
            done = known.lines
        new_draft = _Drafts(batch, name, file.location, content_hash)
        try:
            parquet = pq.ParquetFile(
                pa.OSFile(str(copy)),
                buffer_size=_BLOCK_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
                coerce_int96_timestamp_unit="us",  # in nanoseconds the year 9999 would wrap around
            )
        except (OSError, pa.ArrowException) as error:
            yield _unreadable(new_draft(), copy, size, _first_line(error))
            return
        with closing(parquet):
            yield from _Rows(parquet, new_draft, size, file.location, notice).parcels(done)
    finally:
        copy.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Drafts:
    """Makes the drafts for the parcels of one version of a file."""

    batch: Batch
    name: str
    location: str
    content_hash: str

    def __call__(self) -> ParcelDraft:
        return ParcelDraft(self.batch, self.name, "parquet", self.location, self.content_hash)


def _fetch(file: StoredFile, copy: Path) -> tuple[str, int]:
    """Copy a file to where nothing changes it between the hash and the parse; its hash and size."""
    digest, size = hashlib.sha256(), 0
    with file.open() as stream, copy.open("wb") as out:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            out.write(block)
            size += len(block)
    return digest.hexdigest(), size


def _unreadable(draft: ParcelDraft, copy: Path, size: int, problem: str) -> Parcel:
    with copy.open("rb") as stream:
        head = stream.read(100_000)
    problem = "the file is empty" if not size else f"the file is no Parquet that can be read: {problem}"
    draft.letters.append(DeadLetter("unreadable_file", problem, head, line=1, byte_offset=0, byte_length=size))
    return draft.seal(columns=[], size_bytes=size, position_bytes=size, lines=0)


@dataclass
class _Rows:
    """The rows of an open Parquet file, from row `done` on."""

    parquet: pq.ParquetFile
    new_draft: _Drafts
    size: int
    location: str
    notice: Notice
    columns: list[str] = field(init=False)
    fields: str = field(init=False)
    done: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        schema = self.parquet.schema_arrow
        self.columns = raw_columns(schema.names)
        self.fields = json.dumps({name: [str(type_)] for name, type_ in zip(self.columns, schema.types, strict=True)})
        repeated = [
            column for column, name in zip(self.columns, schema.names, strict=True) if [column] != raw_columns([name])
        ]
        if repeated:
            self.notice(f"{self.location}: columns that are there twice or have no name, kept as {', '.join(repeated)}")

    def parcels(self, done: int) -> Iterator[Parcel]:
        """The parcels behind the first `done` rows."""
        self.done = done
        pending: list[pa.Table] = []
        group_end = 0
        for group in range(self.parquet.metadata.num_row_groups):
            group_start, group_end = group_end, group_end + self.parquet.metadata.row_group(group).num_rows
            if group_end <= done:
                continue
            position = group_start
            try:
                for batch in self.parquet.iter_batches(self._batch_rows(group), row_groups=[group]):
                    fresh = batch.slice(max(0, done - position))
                    position += batch.num_rows
                    if fresh.num_rows:
                        pending.append(self._prepared(fresh, position - fresh.num_rows))
                    if sum(table.num_rows for table in pending) >= PARCEL_ROWS or _weight(pending) >= PARCEL_BYTES:
                        yield from self._parcels(pending)
                        pending = []
                problem = "rows are missing" if position < group_end else ""
            except (OSError, pa.ArrowException) as error:
                problem = _first_line(error)
            if problem:
                if pending:
                    yield from self._parcels(pending)
                    pending = []
                yield self._lost(group_end, problem)
        if pending or self.done == 0:
            yield from self._parcels(pending)

    def _batch_rows(self, group: int) -> int:
        """How many rows of a group to decode at a time."""
        if self.parquet.metadata.row_group(group).num_rows <= WEIGHED_ROWS:
            return WEIGHED_ROWS
        first = next(self.parquet.iter_batches(WEIGHED_ROWS, row_groups=[group]), None)
        weight = _weight([self._prepared(first, 0)]) if first else 0
        return max(1, min(BATCH_ROWS, BATCH_BYTES * WEIGHED_ROWS // weight)) if weight else BATCH_ROWS

    def _prepared(self, batch: pa.RecordBatch, rows_before: int) -> pa.Table:
        """The batch under the columns of raw, in types that DuckDB takes as they are, with the number of each row."""
        arrays = [readable(array) for array in batch.columns]
        lines = pa.array(np.arange(rows_before + 1, rows_before + 1 + batch.num_rows, dtype=np.int64))
        return pa.table([*arrays, lines], names=[*self.columns, "_line"])

    def _parcels(self, pending: list[pa.Table]) -> Iterator[Parcel]:
        """One parcel of some tables of rows, of none too; more when there are rows that have no text."""
        if not pending:
            yield self._sealed(self.new_draft(), self.done)
            return
        rows = pa.concat_tables(pending)
        draft, before = self.new_draft(), self.done
        last = rows["_line"][-1].as_py()
        fit = self._without_unfit(rows, draft)
        try:
            if fit.num_rows:
                draft.add_rows(self._texts(fit), fit["_line"].to_numpy())
        except (duckdb.DataError, duckdb.NotSupportedError, duckdb.ProgrammingError) as error:
            half = rows.num_rows // 2
            if half < SMALLEST_STRETCH:
                yield self._lost(last, _first_line(error))
            else:
                yield from self._parcels([rows.slice(0, half)])
                yield from self._parcels([rows.slice(half)])
            return
        self.done = last
        yield self._sealed(draft, before)

    def _without_unfit(self, rows: pa.Table, draft: ParcelDraft) -> pa.Table:
        """The rows but for those with text that is no text; those go to the dead letters."""
        problems = unfit_rows(rows)
        if not problems:
            return rows
        keep: NDArray[np.bool_] = np.ones(rows.num_rows, bool)
        for index, problem in problems.items():
            keep[index] = False
            record = {name: _raw_value(rows[name], index) for name in self.columns}
            draft.letters.append(
                DeadLetter("not_utf8", problem, repr(record).encode(), line=rows["_line"][index].as_py())
            )
        return rows.filter(pa.array(keep))

    def _texts(self, rows: pa.Table) -> pa.Table:
        columns = ", ".join(
            f"{as_text(quote_identifier(name), rows.schema.field(name).type)} as {quote_identifier(name)}"
            for name in self.columns
        )
        with duckdb.connect() as connection:
            connection.execute("set enable_progress_bar = false")
            connection.execute("set TimeZone = 'UTC'")
            connection.register("decoded", rows)
            return connection.execute(f"select {columns} from decoded").to_arrow_table()

    def _lost(self, group_end: int, problem: str) -> Parcel:
        """The parcel that tells which rows cannot be read."""
        draft, before = self.new_draft(), self.done
        draft.letters.append(
            DeadLetter(
                "unreadable_rows",
                f"rows {before + 1:,} to {group_end:,} cannot be read: {problem}",
                b"",
                line=before + 1,
            )
        )
        self.done = group_end
        return self._sealed(draft, before)

    def _sealed(self, draft: ParcelDraft, before: int) -> Parcel:
        parcel = draft.seal(
            columns=self.columns,
            size_bytes=self.size,
            start_bytes=self._share(before) if before else 0,
            position_bytes=self._share(self.done),
            lines=self.done,
        )
        return replace(parcel, loads=[replace(load, fields=self.fields) for load in parcel.loads])

    def _share(self, rows: int) -> int:
        """The share of the file's bytes that so many rows make up: 0 for none, all for all."""
        total = self.parquet.metadata.num_rows
        return self.size if rows >= total else max(min(rows, 1), self.size * rows // total)


def _weight(tables: list[pa.Table]) -> int:
    return sum(int(table.nbytes) for table in tables)


def _raw_value(column: pa.ChunkedArray, index: int) -> Any:
    value = column.slice(index, 1)
    text = value.type
    if pa.types.is_string(text) or pa.types.is_large_string(text):
        found = value.cast(pa.large_binary())[0].as_py()
        return None if found is None else found.decode(errors="backslashreplace")
    return value[0].as_py()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
