"""What every package asks of a warehouse in the same words: which tables there are, which loads are complete."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

# SQL: `loads`, a row of raw.loads, is of a load that came to its end. A crash can note one twice in _dlt_loads, so that
# a join would count it twice.
IS_COMPLETE = (
    "exists (select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and done.status = 0)"
)


@dataclass(frozen=True)
class Tables:
    """The columns of every table and view of raw, marts and ops, and their types, by `schema.table`."""

    columns: Mapping[str, Mapping[str, str]]

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is such a table with at least these columns."""
        return table in self.columns and set(columns) <= set(self.columns[table])

    def marts(self, prefix: str, *columns: str) -> list[str]:
        """The marts named so that have at least these columns."""
        names = (name.removeprefix("marts.") for name in self.columns if name.startswith(f"marts.{prefix}"))
        return sorted(name for name in names if self.has(f"marts.{name}", *columns))


def read_tables(connection: duckdb.DuckDBPyConnection) -> Tables:
    """What there is in the warehouse, and in no other database that is attached."""
    found: dict[str, dict[str, str]] = {}
    for schema, table, column, kind in connection.execute(
        "select table_schema, table_name, column_name, data_type from information_schema.columns "
        "where table_catalog = current_database() and table_schema in ('raw', 'marts', 'ops') "
        "order by table_name, ordinal_position"
    ).fetchall():
        found.setdefault(f"{schema}.{table}", {})[column] = kind
    return Tables(found)


def fetch_dicts(
    connection: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] | Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The rows of a query, each by the names of its columns."""
    found = connection.execute(query, values)
    names = [column[0] for column in found.description or []]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
