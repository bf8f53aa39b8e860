"""The warehouse: one DuckDB file with one writing process at a time, opened for a stage and closed after it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from foundation.errors import LockedError, StorageError


def quote_identifier(name: str) -> str:
    """`name` as a quoted SQL identifier, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str) -> str:
    """`value` as a quoted SQL string, for the places that take no bound parameter."""
    return "'" + value.replace("'", "''") + "'"


@contextmanager
def open_warehouse(path: Path, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse at `path`, closed on exit so that the next stage can open it.

    Raises LockedError when another process has it open, StorageError when it cannot be opened or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() and not read_only:
            # A file keeps the format it was made with; that of 1.4 packs text in about three quarters of the time.
            duckdb.connect(str(path), config={"storage_compatibility_version": "v1.4.0"}).close()
        connection = duckdb.connect(str(path), read_only=read_only)
    except (duckdb.IOException, duckdb.ConnectionException) as error:
        raise _explain(error, path) from error
    except OSError as error:
        raise StorageError(f"cannot open the warehouse: {error.strerror}", where=str(path), fix=_DISK) from error
    try:
        connection.execute("set TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        # An IO error means the disk; after a fatal one the instance is dead, and the file is whole when reopened.
        if isinstance(error, duckdb.IOException | duckdb.FatalException) or is_disk_full(str(error)):
            raise _explain(error, path) from error
        raise
    finally:
        connection.close()


def is_disk_full(text: str) -> bool:
    """Whether the message of an error says that a disk or quota is full."""
    return "No space left on device" in text or "Disk quota exceeded" in text


_DISK = "free some space or mend the permissions, then run again; what was committed is kept"


def _explain(error: duckdb.Error, path: Path) -> LockedError | StorageError:
    text = str(error)
    if "lock on file" in text:
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
