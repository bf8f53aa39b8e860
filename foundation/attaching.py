"""DuckDB attaches a Postgres database, so that every stage keeps one SQL for both engines.

The extension that it attaches with comes from the package index; nothing is fetched while running.
"""

import importlib.util
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import duckdb

from foundation.errors import ConfigError, StorageError
from foundation.postgres import PostgresWarehouse, is_disk_full, unusable

CATALOG = "warehouse"
_PACKAGE = "duckdb_extension_postgres_scanner"
_OUT_OF_REACH = (
    "permission denied",
    "Unable to connect to Postgres",
    "server closed the connection",
    "terminating connection",
    "no connection to the server",
    "could not receive data from server",
    "SSL connection has been closed",
    'Failed to execute query "COMMIT"',
    'Failed to execute query "ROLLBACK"',
)


def attach(warehouse: PostgresWarehouse, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection whose tables are those of `warehouse`.

    Raises ConfigError where the extension is missing, StorageError when the database is out of reach.
    """
    from psycopg.conninfo import make_conninfo

    parts = warehouse.parts()
    options = ["type postgres", *(["read_only"] if read_only else [])]
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        load_extension(connection)
        connection.execute(f"set temp_directory = {_quoted(str(_spill(warehouse)))}")
        if password := parts.pop("password", None):
            # As a secret, because DuckDB tells the rest of a connection string to whoever asks.
            connection.execute(f"create temporary secret {CATALOG} (type postgres, password {_quoted(password)})")
            options.append(f"secret {CATALOG}")
        address = make_conninfo("", **{**parts, "application_name": "penstock"})
        connection.execute(f"attach {_quoted(address)} as {CATALOG} ({', '.join(options)})")
        connection.execute(f"use {CATALOG}")
    except duckdb.Error as error:
        connection.close()
        raise (explain(error, warehouse) or unusable(error, warehouse)) from None
    except BaseException:
        connection.close()
        raise
    return connection


def detach(connection: duckdb.DuckDBPyConnection) -> None:
    """Take back what was not committed, before the connection is closed.

    DuckDB would do so while it closes, and there ends the whole process when the server is gone.
    """
    with suppress(duckdb.Error):
        connection.rollback()


def explain(error: Exception, warehouse: PostgresWarehouse) -> StorageError | None:
    """What to tell where the database or a disk is out of reach or full, or nothing."""
    text = str(error)
    is_told = isinstance(error, duckdb.IOException) or is_disk_full(text)
    return unusable(error, warehouse) if is_told or any(sign in text for sign in _OUT_OF_REACH) else None


def inexact_columns(warehouse: PostgresWarehouse, schema: str) -> list[str]:
    """Columns of a schema whose numbers DuckDB would read as floating point: numeric without a precision it has."""
    query = f"""
        select table_name || '.' || column_name from information_schema.columns
        where table_schema = {_quoted(schema)} and data_type = 'numeric' and coalesce(numeric_precision, 39) > 38
        order by 1
    """
    connection = attach(warehouse, read_only=True)
    try:
        found = connection.execute("select * from postgres_query(?, ?)", [CATALOG, query]).fetchall()
    except duckdb.Error as error:
        raise unusable(error, warehouse) from None
    finally:
        detach(connection)
        connection.close()
    return [column for (column,) in found]


def _spill(warehouse: PostgresWarehouse) -> Path:
    """Where DuckDB puts what does not fit into memory; it makes the folder itself, but none above it."""
    folder = warehouse.temporary or Path(tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(folder), fix="see temp_dir") from error
    return folder / f"attached-{os.getpid()}"


def load_extension(connection: duckdb.DuckDBPyConnection) -> None:
    """Load DuckDB's Postgres extension from its package. Raises ConfigError where that is missing."""
    found = importlib.util.find_spec(_PACKAGE)
    version = f"v{duckdb.__version__}"
    folders = [Path(place) / "extensions" / version for place in (found and found.submodule_search_locations) or ()]
    file = next((file for folder in folders for file in folder.glob("*.duckdb_extension")), None)
    if file is None:
        raise ConfigError(
            f"DuckDB {duckdb.__version__} has no extension to attach Postgres with",
            where="WAREHOUSE_URL",
            fix=f"install the package duckdb-extension-postgres-scanner=={duckdb.__version__}, or unset WAREHOUSE_URL",
        )
    connection.execute(f"load {_quoted(str(file))}")


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
