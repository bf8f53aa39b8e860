"""Questions to Arrow tables in SQL."""

from typing import Any

import duckdb
import pyarrow as pa


def fetch(table: pa.Table, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a query on `table`, which it calls `found`."""
    return duckdb.from_arrow(table).query("found", statement).fetchall()
