"""Packages: what is landed at once. The rows of its parcels lie in one parquet file for each table of raw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.parcels import DEAD_LETTER_SCHEMA, LINEAGE_SCHEMA, Load, Parcel, new_load_id

# A package is the most work that a kill can undo.
LARGEST_ROWS = 2_000_000
LARGEST_BYTES = 512 * 1024 * 1024
# The first package of a run is smaller, so that landing begins soon.
FIRST_ROWS = 500_000
DEAD_LETTERS = "dead_letters"


class ParquetWriter(pq.ParquetWriter):  # type: ignore[misc]  # pyarrow has no types
    """One that goes in silence: pyarrow closes a file that it could not close once more, and stderr hears of it."""

    def __del__(self) -> None:
        """Leave an open file to Arrow, which closes it without a word; the error was raised where it came up."""


@dataclass
class TableFile:
    """A parquet file with rows for one table of raw, while it grows."""

    table: str
    path: Path
    schema: pa.Schema
    rows: int = 0

    def __post_init__(self) -> None:
        # A file that lives for seconds: packing it would cost more than it saves.
        self._writer = ParquetWriter(
            self.path,
            self.schema,
            compression="none",
            use_dictionary=LINEAGE_SCHEMA.names,
            write_statistics=False,
            store_schema=False,
        )

    def append(self, rows: pa.Table) -> None:
        """Add `rows`; a column that they lack is null. Raises OSError."""
        there = dict(zip(rows.column_names, rows.columns, strict=True))
        columns = [
            there[name].cast(kind) if name in there else pa.nulls(rows.num_rows, kind)
            for name, kind in zip(self.schema.names, self.schema.types, strict=True)
        ]
        self._writer.write_table(pa.table(columns, schema=self.schema))
        self.rows += rows.num_rows

    def close(self) -> None:
        """No more rows. Raises OSError."""
        self._writer.close()


@dataclass
class Package:
    """Parcels that are landed together, their rows already on disk in `folder`.

    `columns` holds the columns that the table of a source has in raw, in their order: a file with just these is loaded
    as it is.
    """

    folder: Path
    columns: Mapping[str, Sequence[str]]
    is_first: bool = False
    files: dict[str, list[TableFile]] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    records: int = 0
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it has the size at which it is landed."""
        largest = min(FIRST_ROWS, LARGEST_ROWS) if self.is_first else LARGEST_ROWS
        return self.records >= largest or self.size_bytes >= LARGEST_BYTES

    @property
    def width(self) -> int:
        """The columns of its widest table."""
        return max((len(file.schema) for files in self.files.values() for file in files), default=0)

    @property
    def columns_after(self) -> dict[str, Sequence[str]]:
        """What `columns` is once the package is landed."""
        return dict(self.columns) | {name: files[-1].schema.names for name, files in self.files.items()}

    def add(self, parcel: Parcel) -> None:
        """Write the rows, dead letters and loads of a parcel. Raises OSError."""
        if parcel.rows is not None:
            self._append(parcel.source, parcel.rows, self._schema(parcel.source, parcel.rows))
        if parcel.dead_letters is not None:
            self._append(DEAD_LETTERS, parcel.dead_letters, DEAD_LETTER_SCHEMA)
        self.loads += parcel.loads
        self.records += parcel.count("read")

    def close(self) -> None:
        """No more parcels. Raises OSError."""
        for files in self.files.values():
            for file in files:
                file.close()

    def remove(self) -> None:
        """Remove its files, once raw has them or nobody wants them."""
        self.close()
        for files in self.files.values():
            for file in files:
                file.path.unlink(missing_ok=True)

    def _schema(self, source: str, rows: pa.Table) -> pa.Schema:
        """That of the file that is open for `source`, or a wider one where `rows` have columns that it lacks."""
        open_files = self.files.get(source)
        before = open_files[-1].schema.names if open_files else self.columns.get(source, ())
        if open_files and set(rows.column_names) <= set(before):
            return open_files[-1].schema
        names = dict.fromkeys([*before, *rows.column_names])
        kinds = {name: LINEAGE_SCHEMA.field(name).type for name in LINEAGE_SCHEMA.names}
        return pa.schema([(name, kinds.get(name, pa.string())) for name in names])

    def _append(self, table: str, rows: pa.Table, schema: pa.Schema) -> None:
        files = self.files.setdefault(table, [])
        if not files or files[-1].schema != schema:
            # A name of its own: dlt links to the file, and the next package is written while this one is landed.
            files.append(TableFile(table, self.folder / f"{table}.{new_load_id()}.parquet", schema))
        files[-1].append(rows)
        self.size_bytes += rows.nbytes
