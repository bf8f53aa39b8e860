"""Replays: dead letters as somebody corrected them, or as they were, read as records of their source once more.

The readers of files judge them as they judge what stands in a file. Each letter comes to just one row or one dead
letter. A row bears the place that its letter had, and in its content hash the id of the letter and the hash of what
was replayed: the same correction is known by it, however often it comes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from foundation.sources import CsvSource, ParquetSource, Source
from foundation.warehouse import quote_identifier, quote_literal
from ingestion.parcels import DEAD_LETTER_SCHEMA, LONGEST_RECORD_KEPT, Batch, Load, Parcel, ParcelDraft, new_load_id
from ingestion.readers.csv_files.chunk import read_chunk
from ingestion.readers.csv_files.parse import Table
from ingestion.readers.framing import Chunk
from ingestion.readers.json_files.parcels import ParcelMaker, open_database
from ingestion.stores import StoredFile

KIND = "replay"
# The columns of a file of replays.
REPLAY_SCHEMA = pa.schema(
    [
        ("letter_id", pa.string()),
        ("replay_key", pa.string()),
        ("location", pa.string()),
        ("line", pa.int64()),
        ("page", pa.int64()),
        ("record", pa.large_string()),
        ("is_object", pa.bool_()),
        ("columns", pa.string()),
        ("dialect", pa.string()),
    ]
)
# Few enough that even the longest records fit into memory.
BATCH_LETTERS = 2_000
Places = NDArray[np.int64]


@dataclass(frozen=True)
class ReplayReader:
    """Reads the replays of one source. `columns` are those that raw has, `expected` the types of fields met so far.

    `landed` are the keys of the replays that raw has already, or that failed under the same settings, of which
    `settings_hash` is told in each load.
    """

    name: str
    source: Source
    batch: Batch
    columns: Sequence[str]
    expected: Mapping[str, Sequence[str]]
    landed: pa.Array
    settings_hash: str

    def parcels(self, file: Path) -> Iterator[Parcel]:
        """The parcels of a file of replays. Raises SourceError where the source is frozen and a record drifted."""
        with open_database() as database:
            for batch in pq.ParquetFile(file).iter_batches(BATCH_LETTERS):
                yield self._parcel(pa.Table.from_batches([batch]), database)

    @cached_property
    def has_columns(self) -> bool:
        """Whether raw holds the records column by column."""
        return isinstance(self.source, CsvSource | ParquetSource)

    def _parcel(self, letters: pa.Table, database: duckdb.DuckDBPyConnection) -> Parcel:
        verdict = _Verdict(letters)
        is_landed = pc.is_in(letters["replay_key"], self.landed).to_numpy()
        by_line = ~letters["is_object"].to_numpy()
        rows: list[pa.Table] = []
        for chosen, table in self._tables(letters, np.flatnonzero(~is_landed & by_line), verdict):
            rows.append(self._lines(letters, chosen, table, verdict))
        objects = np.flatnonzero(~is_landed & ~by_line)
        if objects.size:
            rows.append(self._objects(letters, objects, verdict, database))
        filled = [table for table in rows if table.num_rows]
        found = pa.concat_tables(filled, promote_options="permissive") if filled else None
        return self._seal(letters, is_landed, found, verdict)

    def _tables(self, letters: pa.Table, chosen: Places, verdict: "_Verdict") -> Iterator[tuple[Places, Table]]:
        """Lines of CSV files by the columns and dialect that their file had."""
        kinds: dict[tuple[str | None, str | None], list[int]] = {}
        some = letters.select(["columns", "dialect"]).take(pa.array(chosen)).group_by(["columns", "dialect"])
        for kind in some.aggregate([]).to_pylist():
            kinds[kind["columns"], kind["dialect"]] = []
        for columns, dialect in kinds:
            is_kind = _equal(letters["columns"], columns) & _equal(letters["dialect"], dialect)
            members = chosen[is_kind[chosen]]
            names = json.loads(columns or "[]")
            if not names or not self.has_columns:
                message = (
                    "the columns of its file are not known: write the record as a JSON object"
                    if self.has_columns
                    else "the text is not a JSON object"
                )
                verdict.set_aside(members, "not_an_object", message)
                continue
            found = json.loads(dialect or "{}")
            source = self.source if isinstance(self.source, CsvSource) else None
            delimiter = (source and source.delimiter) or found.get("delimiter", ",")
            quote = source.quote if source and source.quote is not None else found.get("quote", '"')
            yield members, Table(names, delimiter, quote, (source and source.escape) or found.get("escape", quote))

    def _lines(self, letters: pa.Table, chosen: Places, table: Table, verdict: "_Verdict") -> pa.Table:
        texts = letters["record"].take(pa.array(chosen))
        if table.quote and table.escape == table.quote:
            # An open quote would take the next letter into its own.
            is_open = pc.bit_wise_and(pc.count_substring(texts, table.quote), 1).to_numpy() == 1
            verdict.set_aside(chosen[is_open], "broken_quote", "a quote opens a field and nothing closes it")
            chosen = chosen[~is_open]
            texts = letters["record"].take(pa.array(chosen))
        if not chosen.size:
            return pa.table({})
        chunk, first_lines = _chunk(texts)
        draft = ParcelDraft(self.batch, self.name, KIND, "", "")
        return verdict.rows(read_chunk(draft, chunk, table, 0), chosen, first_lines, table.columns)

    def _objects(
        self, letters: pa.Table, chosen: Places, verdict: "_Verdict", database: duckdb.DuckDBPyConnection
    ) -> pa.Table:
        # In JSON a line end between tokens is white space like any other, and inside of a text there is none.
        texts = letters["record"].take(pa.array(chosen))
        texts = pc.replace_substring(pc.replace_substring(texts, "\n", " "), "\r", " ")
        chunk, first_lines = _chunk(texts)
        has_shapes = not self.has_columns
        policy = self.source.schema_drift if has_shapes else "evolve"
        maker = ParcelMaker(
            StoredFile(Path(), "replay"), self.name, policy, self.batch, self.expected if has_shapes else {}, database
        )
        rows = verdict.rows(maker.lines(chunk), chosen, first_lines, ["record"])
        return self._in_columns(rows, verdict) if self.has_columns and rows.num_rows else rows

    def _in_columns(self, rows: pa.Table, verdict: "_Verdict") -> pa.Table:
        """JSON objects as the columns that raw has, every value as text. One with any other name is set aside."""
        known = ", ".join(quote_literal(name) for name in self.columns)
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("found", rows)
            connection.execute(
                f"create temp table judged as select *, "
                f"list_filter(json_keys(record), lambda name: not list_contains([{known}], name)) as strange from found"
            )
            for place, names in connection.execute(
                "select list(place), strange from judged where len(strange) > 0 group by strange"
            ).fetchall():
                told = f"{self.name} has no column {', '.join(names)}: it has {', '.join(self.columns)}"
                verdict.set_aside(np.array(place, np.int64), "unknown_columns", told)
            values = ", ".join(
                f"record ->> {quote_literal(f'$.{json.dumps(name)}')} as {quote_identifier(name)}"
                for name in self.columns
            )
            return connection.execute(f"select place, {values} from judged where len(strange) = 0").to_arrow_table()

    def _seal(
        self, letters: pa.Table, is_landed: NDArray[np.bool_], rows: pa.Table | None, verdict: "_Verdict"
    ) -> Parcel:
        """One load for each place that the letters came from."""
        places = letters["location"].combine_chunks().dictionary_encode()
        which = places.indices.to_numpy()
        is_dead = verdict.is_dead
        loads = []
        for index, location in enumerate(places.dictionary.to_pylist()):
            here = which == index
            keys = _lines(letters["replay_key"].filter(pa.array(here)))
            dead, skipped = int((here & is_dead).sum()), int((here & is_landed).sum())
            loads.append(
                Load(
                    load_id=new_load_id(),
                    run_id=self.batch.run_id,
                    source=self.name,
                    kind=KIND,
                    location=location,
                    content_hash=hashlib.sha256(keys).hexdigest(),
                    size_bytes=0,
                    start_bytes=0,
                    position_bytes=0,
                    lines=int(here.sum()),
                    records_read=int(here.sum()),
                    records_loaded=int(here.sum()) - dead - skipped,
                    records_dead_lettered=dead,
                    records_skipped=skipped,
                    columns="[]",
                    cursor=None,
                    loaded_at=self.batch.loaded_at,
                    dialect=self.settings_hash,
                )
            )
        ids = pa.array([load.load_id for load in loads])
        lineage = pa.table(
            {
                "place": np.arange(letters.num_rows),
                "_location": letters["location"],
                "_content_hash": letters["replay_key"],
                "_line": pc.coalesce(letters["line"], letters["page"], pa.scalar(1, pa.int64())),
                "_load_id": ids.take(places.indices),
                "_loaded_at": pa.repeat(
                    pa.scalar(self.batch.loaded_at, pa.timestamp("us", tz="UTC")), letters.num_rows
                ),
            }
        )
        names: Sequence[str] = ()
        if rows is not None:
            names = [name for name in rows.column_names if name != "place"]
            there = lineage.take(rows["place"].combine_chunks())
            rows = rows.select(names)
            for name in there.column_names[1:]:
                rows = rows.append_column(name, there[name])
        return Parcel(loads, rows, names, verdict.letters(lineage, self.name, self.batch))


class _Verdict:
    """For each letter why it is set aside again, if it is."""

    def __init__(self, letters: pa.Table) -> None:
        self._letters = letters
        self.is_dead = np.zeros(letters.num_rows, bool)
        self._faults: list[tuple[Places, str, str]] = []

    def set_aside(self, chosen: Places, reason: str, message: str) -> None:
        """These letters are no record, for this reason, unless another was found before."""
        fresh = chosen[~self.is_dead[chosen]]
        if fresh.size:
            self._faults.append((fresh, reason, message))
            self.is_dead[fresh] = True

    def rows(self, parcel: Parcel, chosen: Places, first_lines: Places, columns: Sequence[str]) -> pa.Table:
        """The rows of a parcel that was made of the chosen letters, with `place`; each letter has one or none.

        Whatever came to more or to less than one record is set aside.
        """
        text = pc.utf8_trim_whitespace(self._letters["record"].take(pa.array(chosen)))
        is_blank = pc.equal(pc.binary_length(text), 0).to_numpy()
        self.set_aside(chosen[is_blank], "empty_record", "nothing is in it")
        count = np.zeros(len(chosen), np.int64)
        rows, owners = parcel.rows, np.empty(0, np.int64)
        if rows is not None:
            owners = np.searchsorted(first_lines, rows["_line"].to_numpy(), side="right") - 1
            np.add.at(count, owners, 1)
        if (table := parcel.dead_letters) is not None:
            dead = np.searchsorted(first_lines, table["line"].to_numpy(), side="right") - 1
            faults = table.select(["reason", "message"]).append_column("place", pa.array(dead))
            for fault in faults.group_by(["reason", "message"]).aggregate([("place", "list")]).to_pylist():
                self.set_aside(chosen[np.array(fault["place_list"], np.int64)], fault["reason"], fault["message"])
        self.set_aside(chosen[count > 1], "not_one_record", "it holds several records, and one is asked for")
        lost = (count == 0) & ~self.is_dead[chosen]
        lost[:-1] |= lost[1:]  # the one before it may have taken its lines
        self.set_aside(chosen[lost], "unaccountable", "the parser could not account for every line")
        if rows is None:
            return pa.table({})
        kept = ~self.is_dead[chosen[owners]]
        # Views of text have no kernels that take rows.
        values = rows.select(list(columns)).cast(pa.schema([(name, pa.large_string()) for name in columns]))
        return values.append_column("place", pa.array(chosen[owners])).filter(pa.array(kept))

    def letters(self, lineage: pa.Table, source: str, batch: Batch) -> pa.Table | None:
        """The rows of raw.dead_letters."""
        if not self._faults:
            return None
        tables = []
        for chosen, reason, message in self._faults:
            place = pa.array(chosen)
            mine, there = self._letters.take(place), lineage.take(place)
            constants: Mapping[str, Any] = {
                "source": source,
                "run_id": batch.run_id,
                "stage": "parse",
                "reason": reason,
                "message": message,
                "attempts": 1,
            }
            columns: dict[str, Any] = {
                "load_id": there["_load_id"],
                "location": there["_location"],
                "content_hash": there["_content_hash"],
                "line": mine["line"],
                "page": mine["page"],
                "record": pc.utf8_slice_codeunits(mine["record"], 0, LONGEST_RECORD_KEPT),
                "occurred_at": there["_loaded_at"],
            }
            columns |= {name: pa.repeat(pa.scalar(value), len(chosen)) for name, value in constants.items()}
            tables.append(pa.table(columns))
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("found", pa.concat_tables(tables))
            found = connection.execute(
                "select *, sha256(concat_ws(chr(0), content_hash, load_id))[:32] as dead_letter_id, "
                "null::bigint as byte_offset, null::bigint as byte_length, null::blob as record_bytes from found"
            ).to_arrow_table()
        return found.select(DEAD_LETTER_SCHEMA.names).cast(DEAD_LETTER_SCHEMA)


def _chunk(texts: pa.ChunkedArray) -> tuple[Chunk, Places]:
    """Texts as lines of one chunk, and the number of the line on which each begins."""
    texts = pc.utf8_rtrim(texts, "\r\n").combine_chunks()
    lines = pc.count_substring(texts, "\n").to_numpy() + 1
    first_lines = np.cumsum(lines) - lines + 1
    data = _lines(texts)
    return Chunk(data, 0, 1, "", len(data)), first_lines.astype(np.int64)


def _lines(texts: pa.ChunkedArray | pa.Array) -> bytes:
    """Texts one after the other, a line end behind each."""
    empty, end = (pa.scalar(text, pa.large_string()) for text in ("", "\n"))
    ended = pc.binary_join_element_wise(texts.cast(pa.large_string()), empty, end)
    whole = ended.combine_chunks() if isinstance(ended, pa.ChunkedArray) else ended
    _, offsets, data = whole.buffers()
    places = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    return bytes(memoryview(data)[int(places[0]) : int(places[-1])]) if len(whole) else b""


def _equal(column: pa.ChunkedArray, value: str | None) -> NDArray[np.bool_]:
    found = pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, value), fill_value=False)
    return np.asarray(found.to_numpy(), bool)


def as_replayed(parcel: Parcel, resume: str | None) -> Parcel:
    """A parcel of ids that were asked for once more: it moves no cursor, and a walk goes on where it was cut off."""
    return replace(parcel, loads=[replace(load, cursor=None, resume=resume) for load in parcel.loads])
