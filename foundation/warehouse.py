"""The warehouse: a DuckDB file or a Postgres database, opened for a stage and closed after it.

Both are spoken to in DuckDB's SQL. A DuckDB file has one writing process at a time; `hold_warehouse` sees to the same
in Postgres.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import duckdb

from foundation import attaching
from foundation.errors import LockedError, StorageError
from foundation.postgres import PostgresWarehouse, Warehouse, hold, is_disk_full

__all__ = [
    "PostgresWarehouse",
    "Warehouse",
    "address_of",
    "hold_warehouse",
    "is_disk_full",
    "memory_limit",
    "open_warehouse",
    "quote_identifier",
    "quote_literal",
    "warehouse_at",
]

LOCK_SECONDS = 2.0
MEMORY_MB_A_CORE = 125  # the least, says DuckDB's guide to performance


def quote_identifier(name: str) -> str:
    """`name` as a quoted SQL identifier, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str) -> str:
    """`value` as a quoted SQL string, for the places that take no bound parameter."""
    return "'" + value.replace("'", "''") + "'"


def warehouse_at(address: str, temporary: Path | None = None) -> Warehouse:
    """The warehouse that `address_of` spelt; `temporary` is where DuckDB puts what does not fit into memory."""
    is_url = address.startswith(("postgresql://", "postgres://"))
    return PostgresWarehouse(address, temporary) if is_url else Path(address)


def address_of(warehouse: Warehouse) -> str:
    """The warehouse as one text for another process, with its secrets; `str` is for people."""
    return warehouse.url if isinstance(warehouse, PostgresWarehouse) else str(warehouse)


def hold_warehouse(warehouse: Warehouse) -> AbstractContextManager[Callable[[], None]]:
    """Keep every other run from the warehouse, and give what makes sure of it again after a while.

    Both raise LockedError when another run has it.
    """
    # The lock of a DuckDB file is that of its writer, and the work folder that it lies in has its own.
    return hold(warehouse) if isinstance(warehouse, PostgresWarehouse) else nullcontext(lambda: None)


def memory_limit() -> str:
    """How much memory DuckDB takes before it goes on beside the file: 1 GB, on many cores what each of them needs."""
    return f"{max(1000, MEMORY_MB_A_CORE * (os.cpu_count() or 1))}MB"


@contextmanager
def open_warehouse(warehouse: Warehouse, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse, closed on exit so that the next stage can open it.

    Raises LockedError when another process has it open, StorageError when it cannot be opened or written.
    """
    if isinstance(warehouse, PostgresWarehouse):
        connection = attaching.attach(warehouse, read_only=read_only)
    else:
        connection = _open_file(warehouse, read_only=read_only)
    try:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"set memory_limit = '{memory_limit()}'")
        yield connection
    except duckdb.Error as error:
        if isinstance(warehouse, PostgresWarehouse):
            if told := attaching.explain(error, warehouse):
                raise told from None
        # An IO error means the disk; after a fatal one the instance is dead, and the file is whole when reopened.
        elif isinstance(error, duckdb.IOException | duckdb.FatalException) or is_disk_full(str(error)):
            raise _explain(error, warehouse) from error
        raise
    finally:
        if isinstance(warehouse, PostgresWarehouse):
            attaching.detach(connection)
        connection.close()


def _open_file(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() and not read_only:
            # A file keeps the format it was made with; that of 1.4 packs text in about three quarters of the time.
            _connect(path, config={"storage_compatibility_version": "v1.4.0"}).close()
        return _connect(path, read_only=read_only)
    except (duckdb.IOException, duckdb.ConnectionException) as error:
        raise _explain(error, path) from error
    except OSError as error:
        raise StorageError(f"cannot open the warehouse: {error.strerror}", where=str(path), fix=_DISK) from error


def _connect(path: Path, **options: Any) -> duckdb.DuckDBPyConnection:
    """Wait for a process that only looks, as `penstock status` does for some milliseconds: DuckDB refuses at once."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return duckdb.connect(str(path), **options)
        except duckdb.IOException as error:
            if _LOCK not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


_LOCK = "lock on file"
_DISK = "free some space or mend the permissions, then run again; what was committed is kept"


def _explain(error: duckdb.Error, path: Path) -> LockedError | StorageError:
    text = str(error)
    if _LOCK in text:
        holder = re.search(r"PID (\d+)", text)
        who = f"process {holder.group(1)}" if holder else "another process"
        return LockedError(
            f"the warehouse is open in {who}",
            where=str(path),
            fix="close it there (a DuckDB shell, a notebook, another run), then run again",
        )
    return StorageError(f"the warehouse cannot be used: {_first_line(error)}", where=str(path), fix=_DISK)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
