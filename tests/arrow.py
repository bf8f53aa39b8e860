"""What Arrow tables, and the parcels that hold them, say."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa

from ingestion.parcels import Parcel
from ingestion.readers.framing import KnownPrefix


def fetch(table: pa.Table, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a query on `table`, which it calls `found`."""
    return duckdb.from_arrow(table).query("found", statement).fetchall()


def rows_of(parcels: Sequence[Parcel]) -> list[tuple[Any, ...]]:
    """Line and values of every row, the lineage left out."""
    found: list[tuple[Any, ...]] = []
    for parcel in parcels:
        if parcel.rows is not None:
            columns = parcel.rows.select(["_line", *parcel.row_columns]).columns
            rows = zip(*(column.to_pylist() for column in columns), strict=True)
            found += sorted(rows, key=itemgetter(0))
    return found


def letters_of(parcels: Sequence[Parcel], columns: str = "line, reason, message") -> list[tuple[Any, ...]]:
    """These columns of every dead letter."""
    found: list[tuple[Any, ...]] = []
    for parcel in parcels:
        if parcel.dead_letters is not None:
            found += fetch(parcel.dead_letters, f"select {columns} from found order by all")
    return found


def known_after(parcels: Sequence[Parcel]) -> KnownPrefix:
    """What the next run knows of the file that ended in the last of these parcels."""
    load = parcels[-1].loads[0]
    return KnownPrefix(load.position_bytes, load.lines, load.content_hash.partition("-")[0], load.dialect)
