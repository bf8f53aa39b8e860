"""A Postgres database as the warehouse: where it is, what no message may show of it, and one run at once."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from foundation.errors import ConfigError, LockedError, StorageError

if TYPE_CHECKING:
    import psycopg

CONNECT_SECONDS = 10
OLDEST_SERVER = 160_000  # the first with pg_input_is_valid
LOCK_SECONDS = 1  # in which the server notices that a run, or our own connection, has gone and frees its lock
RUN_LOCK = 4_915_220_871_336_054_118  # any number; the same for every run on a database
_FIX = "mend the connection or the server, then run again; what was committed is kept"
# DuckDB repeats the connection string before what the server said.
_SPOKEN = re.compile(r'Unable to connect to Postgres at "(?:[^"\\]|\\.|"(?!: ))*": ', re.DOTALL)


@dataclass(frozen=True)
class PostgresWarehouse:
    """A Postgres database as the warehouse; as text it says where it is, and no user's secret."""

    url: str = field(repr=False)
    # Where DuckDB puts what does not fit into memory; unset: the system's folder for such.
    temporary: Path | None = field(default=None, compare=False)

    def __str__(self) -> str:
        parts = self.parts()
        return f"postgres {parts['host']}:{parts['port']}, database {parts['dbname']}"

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


Warehouse = Path | PostgresWarehouse


def is_disk_full(text: str) -> bool:
    """Whether the message of an error says that a disk or quota is full."""
    return "No space left on device" in text or "Disk quota exceeded" in text


def unusable(error: Exception, warehouse: PostgresWarehouse) -> StorageError:
    """What an error of DuckDB or of a driver says, without a secret."""
    text = warehouse.redacted(str(error))[:400]
    return StorageError(f"the warehouse cannot be used: {text}", where=str(warehouse), fix=_FIX)


@contextmanager
def hold(warehouse: PostgresWarehouse) -> Iterator[Callable[[], None]]:
    """Keep every other run from `warehouse`, whichever machine it is on; the server frees it when we are gone.

    Gives what takes the lock again where it went with its connection. Both raise LockedError when another run has it,
    StorageError when the database is out of reach, ConfigError for one that the models cannot be built in.
    """
    import psycopg

    connection = _lock(warehouse)

    def keep() -> None:
        nonlocal connection
        try:
            connection.execute("select 1")
        except psycopg.Error:
            connection.close()
            connection = _lock(warehouse)

    try:
        yield keep
    finally:
        connection.close()


def _lock(warehouse: PostgresWarehouse) -> "psycopg.Connection[tuple[Any, ...]]":
    import psycopg
    from psycopg.conninfo import make_conninfo

    # Idle for as long as a run takes: neither the server nor a firewall is to end it.
    idle = {"application_name": "penstock run", "keepalives_idle": "30"}
    with ExitStack() as stack:
        try:
            address = make_conninfo("", **{**warehouse.parts(), **idle})
            connection = psycopg.connect(address, autocommit=True, prepare_threshold=None)
            stack.callback(connection.close)
            _check_server(connection, warehouse)
            connection.execute("set idle_session_timeout = 0")
            connection.execute(f"set lock_timeout = '{LOCK_SECONDS}s'")
            connection.execute("select pg_advisory_lock(%s)", [RUN_LOCK])
        except psycopg.errors.LockNotAvailable:
            raise LockedError(
                f"another run is going: {_holder(connection)}",
                where=str(warehouse),
                fix="wait for it to end, then run again",
            ) from None
        except psycopg.Error as error:
            raise unusable(error, warehouse) from None
        stack.pop_all()
    return connection


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


def _user() -> str:
    """The user that libpq takes where none is named."""
    from psycopg.pq import Conninfo

    found = next((each.val for each in Conninfo.get_defaults() if each.keyword == b"user"), None)
    return (found or b"postgres").decode()
