"""The publish target: a connection that gives up in time, one publisher at once, and errors that show no password."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from foundation.errors import ConfigError, LockedError, PenstockError, PublishError
from foundation.settings import Retention, Roles

CONNECT_SECONDS = 10
LONGEST_NAME = 63  # bytes; Postgres cuts longer ones off in silence
PUBLISHER_SECONDS = 2.0  # how long a second publisher waits for the first one
PUBLISHER_LOCK = 7_306_103_424_018_310_510  # any number; the same for every publisher of a database
WORK_MEMORY = "64MB"  # of the comparison of one mart; the rest goes to the target's disk
INDEX_MEMORY = "256MB"  # of an index that is made

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Destination:
    """Where marts are published to: a database, the schema in it, and how its publisher goes about it."""

    dsn: str = field(repr=False)
    schema: str = "public"
    lock_timeout_seconds: float = 10.0
    statement_timeout_seconds: float = 3600.0
    retention: Retention = field(default_factory=Retention)
    roles: Roles = field(default_factory=Roles)


_STILL = "the target still shows the release before"
_WAY_THERE = "check that the server runs, that it can be reached from here, and DATABASE_URL"
# What to check, by a word of the refusal, be it the server's or libpq's.
_WAYS_IN = {
    "No space left": "make space on the server's disk, then run again",
    "password": "check the user and the password in DATABASE_URL",
    "pg_hba.conf": "check user, database and sslmode in DATABASE_URL, and whom the server's pg_hba.conf lets in",
    **dict.fromkeys(("SSL", "certificate"), "check the host, sslmode, sslrootcert, sslcert and sslkey in DATABASE_URL"),
}


def describe(dsn: str) -> str:
    """Where `dsn` leads, for people: host, port and database, with no user's secret.

    Raises ConfigError when it is no connection string; the message does not repeat it.
    """
    parts = _parse(dsn)
    host = parts.get("host") or parts.get("hostaddr") or parts.get("service") or "local socket"
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"{host}{port}, database {parts.get('dbname') or parts.get('user') or 'of the user'}"


@contextmanager
def connect(dsn: str) -> Iterator[Connection]:
    """A connection in no transaction yet, closed on exit; what was not committed is rolled back by the server.

    Raises ConfigError for a malformed `dsn`, PublishError when the target does not let us in; on exit turns every
    psycopg error into a PublishError or LockedError.
    """
    parts = _parse(dsn)
    settings = {
        "application_name": "penstock",
        "connect_timeout": CONNECT_SECONDS,
        # A peer that vanished is noticed in about a minute, not in two hours.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        **parts,
        "client_encoding": "UTF8",
    }
    with explained(dsn, connecting=True):
        connection: Connection = psycopg.connect(**settings, prepare_threshold=None)  # safe behind a pooler
    try:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.read_only = False
        with explained(dsn):
            yield connection
    finally:
        connection.close()


@contextmanager
def explained(dsn: str, mart: str | None = None, *, connecting: bool = False) -> Iterator[None]:
    """Turns psycopg's errors into one line of what, where and what to do."""
    try:
        yield
    except psycopg.Error as error:
        raise _explain(error, dsn, mart, connecting=connecting) from error


@contextmanager
def transaction(connection: Connection, destination: Destination) -> Iterator[None]:
    """One transaction that only one publisher of the database can be in. The caller commits; an error rolls back.

    Raises LockedError when another publisher does not end within PUBLISHER_SECONDS.
    """
    try:
        _become_only_publisher(connection)
        _settle(connection, destination)
        yield
    finally:
        with suppress(psycopg.Error):  # nothing is left to roll back after a commit, or on a lost connection
            connection.rollback()


def fit_name(*parts: str) -> str:
    """A name as Postgres would give it; one that is too long ends in a hash, so that two do not become the same."""
    name = "_".join(parts)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return (
        name.encode()[: LONGEST_NAME - 9].decode(errors="ignore") + "_" + hashlib.sha256(name.encode()).hexdigest()[:8]
    )


def ensure_schema(connection: Connection, schema: str) -> None:
    """Make `schema` when it is missing; `if not exists` alone would ask for a privilege that is not needed."""
    if connection.execute("select from pg_namespace where nspname = %s", [schema]).fetchone() is None:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))


def lock_table(connection: Connection, schema: str, mart: str, *, against_readers: bool) -> None:
    """Keeps other writers (and readers, where the table's columns change) off until the transaction ends.

    Raises LockedError that names who holds the table.
    """
    mode = "access exclusive" if against_readers else "share row exclusive"
    table = sql.Identifier(schema, mart)
    try:
        connection.execute(sql.SQL("lock table {} in " + mode + " mode").format(table))
    except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
        connection.rollback()
        harmless = [] if against_readers else ["AccessShareLock", "RowShareLock"]
        holders = _holders(
            connection,
            "l.relation = to_regclass(%s) and l.mode <> all(%s)",
            [table.as_string(connection), harmless],
        )
        raise LockedError(
            f"the table {schema}.{mart} is in use{_by(holders)}",
            where=_where(connection.info),
            fix=f"wait for it to end or end it, then run again; {_STILL}",
        ) from error


def _become_only_publisher(connection: Connection) -> None:
    """Tries in fresh transactions, so that now() is later than the end of whoever published before."""
    deadline = time.monotonic() + PUBLISHER_SECONDS
    while True:
        row = connection.execute("select pg_try_advisory_xact_lock(%s)", [PUBLISHER_LOCK]).fetchone()
        if row and row[0]:
            return
        connection.rollback()
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    high, low = PUBLISHER_LOCK >> 32, PUBLISHER_LOCK & 0xFFFFFFFF
    holders = _holders(connection, "l.locktype = 'advisory' and l.classid = %s and l.objid = %s", [high, low])
    raise LockedError(
        f"another publish is under way{_by(holders)}", where=_where(connection.info), fix="run again when it has ended"
    )


def _settle(connection: Connection, destination: Destination) -> None:
    """Settings of this transaction only: what the role or the database has set must not change what is published."""
    settings = {
        "lock_timeout": f"{max(1, round(destination.lock_timeout_seconds * 1000))}ms",
        "statement_timeout": f"{max(1, round(destination.statement_timeout_seconds * 1000))}ms",
        "idle_in_transaction_session_timeout": "0",
        "timezone": "UTC",
        "datestyle": "ISO, YMD",
        "row_security": "off",  # an error instead of rows that we cannot see
        "work_mem": WORK_MEMORY,
        "maintenance_work_mem": INDEX_MEMORY,
        # A change of few rows is found by the key; the default is for disks that turn.
        "random_page_cost": "1.1",
    }
    pairs = ", ".join(["set_config(%s, %s, true)"] * len(settings))
    connection.execute(f"select {pairs}", [text for pair in settings.items() for text in pair])
    if connection.info.server_version >= 140_000:
        # A publisher that was killed frees its locks within a second, also in the midst of a long statement.
        with suppress(psycopg.Error), connection.transaction():  # not every platform can
            connection.execute("set local client_connection_check_interval = '1s'")


def _holders(connection: Connection, condition: str, parameters: list[Any]) -> list[str]:
    found = connection.execute(
        "select distinct a.pid, a.usename, a.application_name, extract(epoch from now() - a.xact_start)::int"
        " from pg_locks as l join pg_stat_activity as a on a.pid = l.pid"
        " where l.granted and l.pid <> pg_backend_pid() and a.datname = current_database()"
        f" and {condition} order by a.pid limit 3",
        parameters,
    ).fetchall()
    connection.rollback()
    return [
        f"process {pid} ({', '.join(str(part) for part in (user, program, f'for {age} s' if age else None) if part)})"
        for pid, user, program, age in found
    ]


def _by(holders: list[str]) -> str:
    return f" by {', '.join(holders)}" if holders else ""


def _where(info: psycopg.ConnectionInfo) -> str:
    return f"{info.host or 'local socket'}:{info.port}, database {info.dbname}"


def _parse(dsn: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(dsn)
    except (psycopg.Error, ValueError):  # ValueError: %de is an escape, but of no UTF-8
        pass
    # Raised out here: the driver's message repeats parts of the string, so it must not hang on as a cause either.
    raise ConfigError(
        "DATABASE_URL is not a Postgres connection string",
        where="DATABASE_URL",
        fix="write postgresql://user:password@host:5432/database, with @ in the password as %40 and so on",
    )


def _explain(error: psycopg.Error, dsn: str, mart: str | None, *, connecting: bool) -> PenstockError:
    where = describe(dsn) + (f", table {mart}" if mart else "")
    told = message_of(error, dsn)
    if connecting:
        fix = next((fix for word, fix in _WAYS_IN.items() if word in told), _WAY_THERE)
        return PublishError(f"cannot connect to the publish target: {told}", where=where, fix=fix)
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected):
        return LockedError(f"a lock was not to be had: {told}", where=where, fix=f"run again; {_STILL}")
    if isinstance(error, errors.QueryCanceled):
        return PublishError(
            told, where=where, fix=f"where that is a timeout, raise statement_timeout_seconds; {_STILL}"
        )
    if isinstance(error, errors.DiskFull):
        return PublishError(
            f"the publish target's disk is full: {told}", where=where, fix=f"make space there, then run again; {_STILL}"
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return PublishError(told, where=where, fix=f"grant it to the user of DATABASE_URL; {_STILL}")
    if isinstance(error, errors.UniqueViolation):
        columns = (error.diag.message_detail or "").split("=")[0].removeprefix("Key ").strip()
        return PublishError(
            f"two rows have the same {columns or 'key'}: {told}",
            where=where,
            fix=f"make the model unique on it, or mend outputs in penstock.yml; {_STILL}",
        )
    if isinstance(error, errors.DataError | errors.IntegrityError):
        column = error.diag.column_name or _column_of(error)
        return PublishError(
            f"Postgres refused a row: {told}",
            where=where + (f", column {column}" if column else ""),
            fix=f"mend the model; {_STILL}",
        )
    # 57P is the class of a server that ends a session, or all of them.
    if isinstance(error, errors.OperationalError) and (error.sqlstate or "57P").startswith("57P"):
        return PublishError(f"the connection was lost: {told}", where=where, fix=f"run again; {_STILL}")
    return PublishError(told, where=where, fix=f"mend it and run again; {_STILL}")


def message_of(error: psycopg.Error, dsn: str) -> str:
    """What an error says, in a line and without the password."""
    # libpq adds lines of advice, and where a name has several addresses a list of all attempts.
    lines = [line.strip("- \t") for line in str(error).splitlines() if line.strip() and "Multiple" not in line]
    told = error.diag.message_primary or (lines[0] if lines else type(error).__name__)
    told = told.removeprefix("connection failed: ")
    for secret in ("password", "sslpassword"):
        if value := _parse(dsn).get(secret):
            told = told.replace(str(value), "***")
    return told


def _column_of(error: psycopg.Error) -> str | None:
    # "COPY employees, line 3, column metadata: ..."; the value after the colon is a person's, not for a message.
    context = (error.diag.context or "").split(", column ")
    return context[1].split(":")[0].split(",")[0].splitlines()[0].strip() if len(context) > 1 else None
