"""Calls that fail: the Nth write, rename, sync, open or database call of a process gets an error of the system."""

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What fails, and with which error. The place of the file tells ours from those of the libraries' code.
CALLS = ("write", "replace", "fsync", "open", "mkdir", "postgres", "duckdb")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}


def install(asked: str) -> None:
    """`asked` is call:N:error; the last Nth call leaves a file beside that of CHAOS_REACHED, to tell that it failed."""
    call, number, error = asked.split(":")
    _INSTALL[call](_Counter(int(number), error))


class _Counter:
    """Counts calls of this process and its threads; the Nth fails."""

    def __init__(self, number: int, error: str) -> None:
        self._left, self._error, self._guard = number, error, threading.Lock()

    def failed(self) -> bool:
        """Whether this is the call that fails."""
        with self._guard:
            self._left -= 1
            if self._left == 0:
                descriptor = os.open(os.environ["CHAOS_REACHED"], os.O_CREAT | os.O_WRONLY)
                os.close(descriptor)
                return True
            return False

    def os_error(self) -> OSError:
        """The error of the system."""
        number = ERRORS[self._error]
        return OSError(number, os.strerror(number))

    def wrapped(self, original: Callable[..., Any], error: Callable[[], Exception]) -> Callable[..., Any]:
        """`original`, but for the Nth call."""

        def call(*arguments: Any, **named: Any) -> Any:
            if self.failed():
                raise error()
            return original(*arguments, **named)

        return call


def _is_ours(file: Any) -> bool:
    return isinstance(file, str | Path) and str(file).startswith(os.environ["CHAOS_FOLDER"])


def _fail_open(counter: _Counter) -> None:
    original = builtins.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if _is_ours(file) and set(mode) & set("wax+") and counter.failed():
            raise counter.os_error()
        return original(file, mode, *arguments, **named)

    builtins.open = io.open = opened


def _fail_write(counter: _Counter) -> None:
    """The Nth file opened for writing has no room for its second byte."""
    original = builtins.open

    class Full(io.FileIO):
        def write(self, _data: Any) -> int:
            raise counter.os_error()

    def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        stream = original(file, mode, *arguments, **named)
        if _is_ours(file) and set(mode) & set("wa") and counter.failed():
            stream.close()
            full = Full(file, mode.replace("t", "").replace("b", ""))
            buffered = io.BufferedWriter(full)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")
        return stream

    builtins.open = io.open = opened


def _fail_replace(counter: _Counter) -> None:
    for name in ("replace", "rename"):
        setattr(os, name, counter.wrapped(getattr(os, name), counter.os_error))


def _fail_fsync(counter: _Counter) -> None:
    os.fsync = counter.wrapped(os.fsync, counter.os_error)


def _fail_mkdir(counter: _Counter) -> None:
    os.mkdir = counter.wrapped(os.mkdir, counter.os_error)


def _fail_postgres(counter: _Counter) -> None:
    import psycopg

    def lost() -> Exception:
        return psycopg.OperationalError("server closed the connection unexpectedly")

    for name in ("execute", "commit"):
        setattr(psycopg.Connection, name, counter.wrapped(getattr(psycopg.Connection, name), lost))
    psycopg.connect = counter.wrapped(psycopg.connect, lost)


def _fail_duckdb(counter: _Counter) -> None:
    import duckdb

    def full() -> Exception:
        return duckdb.IOException("Could not write file: No space left on device")

    duckdb.connect = counter.wrapped(duckdb.connect, full)


_INSTALL: dict[str, Callable[[_Counter], None]] = {
    "write": _fail_write,
    "open": _fail_open,
    "replace": _fail_replace,
    "fsync": _fail_fsync,
    "mkdir": _fail_mkdir,
    "postgres": _fail_postgres,
    "duckdb": _fail_duckdb,
}
