"""A Great Expectations data source on an open DuckDB connection. It can go when GX has a DuckDB engine of its own.

GX's SQL engine closes a connection before it fetches from it, which DuckDB does not survive ("list index out of
range"); only for dialects on a private list of its own does it keep the connection. So this keeps it, in the same two
classes that GX uses for SQLite. Importing this module imports GX, which takes seconds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import duckdb
import sqlalchemy
from duckdb_sqlalchemy import ConnectionWrapper
from great_expectations.data_context import EphemeralDataContext
from great_expectations.datasource.fluent import SQLDatasource
from great_expectations.execution_engine import SqlAlchemyExecutionEngine

from foundation.warehouse import quote_identifier

TYPE = "penstock_duckdb"


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):  # type: ignore[misc]  # GX is not typed for us
    """GX's SQL engine with one connection that stays open from the query to the last row fetched."""

    _kept: sqlalchemy.Connection | None = None

    @contextmanager
    def get_connection(self) -> Iterator[sqlalchemy.Connection]:
        """The one connection, made when first asked for."""
        if self._kept is None:
            self._kept = self.engine.connect()
        yield self._kept

    def close(self) -> None:
        """Give the connection back before the pool goes, or SQLAlchemy complains when it is collected."""
        if self._kept is not None:
            self._kept.close()
        super().close()


class DuckDBDatasource(SQLDatasource):  # type: ignore[misc]  # GX is not typed for us
    """A SQL data source that runs on DuckDBExecutionEngine; defining it gives contexts `add_penstock_duckdb`."""

    type: Literal["penstock_duckdb"] = TYPE  # type: ignore[assignment,unused-ignore]

    execution_engine_override: ClassVar[Any] = DuckDBExecutionEngine


@contextmanager
def duckdb_datasource(context: EphemeralDataContext, connection: duckdb.DuckDBPyConnection) -> Iterator[SQLDatasource]:
    """A data source in the GX `context` that reads through `connection`; all that it opened is closed on exit.

    GX gets cursors of the connection instead of a path, so that the file is opened once, with one configuration.
    Raises RuntimeError when the installed GX no longer works with this adapter.
    """
    handles: list[duckdb.DuckDBPyConnection] = []
    row = connection.execute("select current_database()").fetchone()
    assert row is not None

    def cursor() -> ConnectionWrapper:
        handle = connection.cursor()
        handles.append(handle)
        # Settings of the session, which a cursor does not inherit.
        handle.execute("set TimeZone = 'UTC'")
        handle.execute(f"use {quote_identifier(row[0])}")
        return ConnectionWrapper(handle)

    source = getattr(context.data_sources, f"add_{TYPE}")(
        name="warehouse",
        connection_string="duckdb:///:memory:",  # never opened: `creator` hands out the connections
        # Each query is its own transaction: one that fails must not abort those after it.
        kwargs={"creator": cursor, "poolclass": sqlalchemy.StaticPool, "isolation_level": "AUTOCOMMIT"},
    )
    engine = source.get_execution_engine()
    try:
        _check_it_works(engine)
        yield source
    finally:
        engine.close()
        source.get_engine().dispose()  # the one that GX tests connections with
        for handle in handles:
            handle.close()


def _check_it_works(engine: DuckDBExecutionEngine) -> None:
    try:
        rows = engine.execute_query(sqlalchemy.text("select 42")).fetchall()
    except Exception as error:
        raise RuntimeError(_CHANGED) from error
    if [tuple(row) for row in rows] != [(42,)]:
        raise RuntimeError(_CHANGED)


_CHANGED = (
    f"expectations/duckdb_engine.py does not fit great-expectations {version('great-expectations')} with "
    f"duckdb-sqlalchemy {version('duckdb-sqlalchemy')}: install the locked versions, or mend the adapter"
)
