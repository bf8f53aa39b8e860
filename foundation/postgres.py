"""A Postgres database as the warehouse: DuckDB attaches it, so that every stage keeps one SQL for both engines.

The extension that DuckDB attaches with comes from the package index; nothing is fetched while running.
"""

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import duckdb

from foundation.errors import ConfigError, LockedError, StorageError

if TYPE_CHECKING:
    import psycopg

CATALOG = "warehouse"
CONNECT_SECONDS = 10
OLDEST_SERVER = 160_000  # the first with pg_input_is_valid
RUN_LOCK = 4_915_220_871_336_054_118  # any number; the same for every run on a database
_PACKAGE = "duckdb_extension_postgres_scanner"
_FIX = "mend the connection or the server, then run again; what was committed is kept"
# DuckDB repeats the connection string before what the server said.
_SPOKEN = re.compile(r'Unable to connect to Postgres at "(?:[^"\\]|\\.|"(?!: ))*": ', re.DOTALL)
_LOST = (
    "Unable to connect to Postgres",
    "server closed the connection",
    "terminating connection",
    "no connection to the server",
    "could not receive data from server",
    "SSL connection has been closed",
    'Failed to execute query "COMMIT"',
    'Failed to execute query "ROLLBACK"',
)


@dataclass(frozen=True)
class PostgresWarehouse:
    """A Postgres database as the warehouse; as text it says where it is, and no user's secret."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = self.parts()
        port = f":{parts['port']}" if "port" in parts else ""
        return f"postgres {parts.get('host', 'localhost')}{port}, database {parts.get('dbname', '')}"

    def exists(self) -> bool:
        """True: the database is there, or opening it says why not."""
        return True

    def parts(self) -> dict[str, str]:
        """The connection string's parameters, host and port also where they are left to their defaults.

        Raises ConfigError for what is no connection string; the message does not repeat it.
        """
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        from_url = self.url.startswith(("postgresql://", "postgres://"))
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(self.url).items() if value is not None}
        except ProgrammingError:
            given = {}
        is_port = re.fullmatch(r"\d+(,\d+)*", given.get("port", "5432"))
        if not from_url or not is_port or not given.get("dbname"):
            raise ConfigError(
                "warehouse_url is no connection string of a Postgres database",
                where="WAREHOUSE_URL",
                fix="write it as postgresql://user:password@host:5432/database",
            )
        defaults = {"host": "localhost", "port": "5432", "connect_timeout": str(CONNECT_SECONDS), "user": _user()}
        return {**defaults, **given}

    def driver_url(self) -> str:
        """The connection string for drivers that want a user, a password and a host, all of them before the path."""
        parts = self.parts()
        # An empty password is none for libpq, which then looks into its password file.
        user, password, database = (quote(parts.pop(name, ""), safe="") for name in ("user", "password", "dbname"))
        return f"postgresql://{user}:{password}@localhost/{database}?{urlencode(parts, quote_via=quote)}"

    def secrets(self) -> list[str]:
        """What no message may show, also as a connection string spells it; the longest first."""
        parts = self.parts()
        plain = [secret for name in ("password", "sslpassword") if (secret := parts.get(name))]
        spelt = {
            spelling for text in plain for spelling in (text, *(quote(text, safe=safe) for safe in ("", "/", " +")))
        }
        return sorted(spelt, key=len, reverse=True)

    def redacted(self, text: str) -> str:
        """`text` on one line without a secret and without the connection string."""
        text = _SPOKEN.sub("", text)
        for secret in self.secrets():
            text = text.replace(secret, "***")
        return " ".join(text.split())


def attach(warehouse: PostgresWarehouse, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection whose tables are those of `warehouse`.

    Raises ConfigError where the extension is missing, StorageError when the database is out of reach.
    """
    from psycopg.conninfo import make_conninfo

    parts = warehouse.parts()
    options = ["type postgres", *(["read_only"] if read_only else [])]
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        _load_extension(connection)
        if password := parts.pop("password", None):
            # As a secret, because DuckDB tells the rest of a connection string to whoever asks.
            connection.execute(f"create temporary secret {CATALOG} (type postgres, password {_quoted(password)})")
            options.append(f"secret {CATALOG}")
        address = make_conninfo("", **{**parts, "application_name": "penstock"})
        connection.execute(f"attach {_quoted(address)} as {CATALOG} ({', '.join(options)})")
        connection.execute(f"use {CATALOG}")
    except duckdb.Error as error:
        connection.close()
        raise (explain(error, warehouse) or _unusable(error, warehouse)) from None
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
    """What to tell where the database is out of reach or full, or nothing; from an error of DuckDB or of a driver."""
    text = str(error)
    if is_disk_full(text) or any(sign in text for sign in _LOST):
        return _unusable(error, warehouse)
    return None


def is_disk_full(text: str) -> bool:
    """Whether the message of an error says that a disk or quota is full."""
    return "No space left on device" in text or "Disk quota exceeded" in text


def _unusable(error: Exception, warehouse: PostgresWarehouse) -> StorageError:
    text = warehouse.redacted(str(error))[:400]
    return StorageError(f"the warehouse cannot be used: {text}", where=str(warehouse), fix=_FIX)


@contextmanager
def hold(warehouse: PostgresWarehouse) -> Iterator[None]:
    """Keep every other run from `warehouse`, whichever machine it is on; the server frees it when we are gone.

    Raises LockedError at once when another run has it, StorageError when the database is out of reach, ConfigError for
    one that the models cannot be built in.
    """
    import psycopg
    from psycopg.conninfo import make_conninfo

    try:
        address = make_conninfo("", **{**warehouse.parts(), "application_name": "penstock run"})
        connection = psycopg.connect(address, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise _unusable(error, warehouse) from None
    try:
        _check_server(connection, warehouse)
        row = connection.execute("select pg_try_advisory_lock(%s)", [RUN_LOCK]).fetchone()
        if row is None or not row[0]:
            raise LockedError(
                f"another run has the warehouse: {_holder(connection)}",
                where=str(warehouse),
                fix="wait for it to end, then run again",
            )
        yield
    finally:
        connection.close()


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
        raise _unusable(error, warehouse) from None
    finally:
        detach(connection)
        connection.close()
    return [column for (column,) in found]


def _check_server(connection: "psycopg.Connection[tuple[Any, ...]]", warehouse: PostgresWarehouse) -> None:
    """Raises ConfigError where texts would be read otherwise than on DuckDB, and nobody would notice."""
    row = connection.execute("select getdatabaseencoding(), current_setting('server_version_num')::int").fetchone()
    assert row is not None
    encoding, version = row
    if version < OLDEST_SERVER:
        raise ConfigError(
            f"Postgres {version // 10_000} cannot tell whether a text is JSON or a date",
            where=str(warehouse),
            fix=f"use Postgres {OLDEST_SERVER // 10_000} or newer as the warehouse",
        )
    cased = encoding == "UTF8" and connection.execute("select upper('\u044f'), lower('\u00c9')").fetchone()
    if cased != ("\u042f", "\u00e9"):
        raise ConfigError(
            "the warehouse's database does not know the letters beyond ASCII, so names would be spelt otherwise",
            where=str(warehouse),
            fix="create database ... encoding 'UTF8' locale 'C.UTF-8' template template0",
        )


def _holder(connection: "psycopg.Connection[tuple[Any, ...]]") -> str:
    import psycopg

    with suppress(psycopg.Error):
        row = connection.execute(
            """
            select pid, coalesce(host(client_addr), 'a local socket') from pg_stat_activity
            where pid = (
                select pid from pg_locks
                where locktype = 'advisory' and granted and ((classid::bigint << 32) | objid::bigint) = %s
                    and database = (select oid from pg_database where datname = current_database())
                limit 1
            )
            """,
            [RUN_LOCK],
        ).fetchone()
        if row:
            return f"server process {row[0]}, from {row[1]}"
    return "the server does not say which"


def _load_extension(connection: duckdb.DuckDBPyConnection) -> None:
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


def _user() -> str:
    """The user that libpq takes where none is named."""
    from psycopg.pq import Conninfo

    found = next((each.val for each in Conninfo.get_defaults() if each.keyword == b"user"), None)
    return (found or b"postgres").decode()


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
