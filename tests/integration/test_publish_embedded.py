"""The embedded Postgres: starts where it can, survives crashes and strange folders, stops when asked."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from foundation.errors import PublishError
from foundation.settings import load_settings
from operations.publish_target import PublishTarget
from publishing import embedded, embedded_home

ROOT = Path(__file__).parents[2]
IN_MEMORY = Path("/dev/shm")
# Making and copying a server's data is many small writes; what these tests kill is processes, never the machine.
BASE = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 2**30 else Path("/tmp")
IS_ROOT = os.geteuid() == 0
START = (
    "import sys; from pathlib import Path; from publishing import embedded; print(embedded.start(Path(sys.argv[1])))"
)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data folder as the first start makes it, to copy: making one writes a thousand files through to the disk."""
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=BASE))
    folder.chmod(0o755)
    embedded.start(folder)
    embedded.stop(folder)
    yield folder / "postgres"
    shutil.rmtree(folder)


def put(made: Path, work_dir: Path) -> Path:
    work_dir.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(made), str(work_dir)], check=True)
    return work_dir


@pytest.fixture
def project() -> Iterator[Path]:
    """A short folder that all can enter; pytest's own is closed to the user that root's server runs as."""
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=BASE))
    folder.chmod(0o755)
    yield folder
    for work_dir in [folder, *folder.rglob(".penstock")]:
        embedded.stop(work_dir)
    for socket_folder in Path("/tmp").glob("penstock-*"):
        shutil.rmtree(socket_folder) if not any(socket_folder.iterdir()) else None
    shutil.rmtree(folder)


def in_another_process(work_dir: Path) -> str:
    command = [sys.executable, "-c", START, str(work_dir)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def ask(dsn: str, question: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(question).fetchone()
        return row[0] if row else None


def remember(dsn: str, value: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table remembered as select %s::int as value", [value])


def postmaster_pid(work_dir: Path) -> int:
    return int((embedded.data_folder(work_dir) / "postmaster.pid").read_text().splitlines()[0])


def test_it_starts_once_stops_once_and_keeps_its_data(project: Path) -> None:
    work_dir = project / ".penstock"
    assert (embedded.is_running(work_dir), embedded.stop(work_dir)) == (False, False)
    dsn = embedded.start(work_dir)
    assert embedded.start(work_dir) == dsn
    assert embedded.is_running(work_dir)
    remember(dsn, 7)
    assert (embedded.stop(work_dir), embedded.is_running(work_dir), embedded.stop(work_dir)) == (True, False, False)
    assert ask(embedded.start(work_dir), "select value from remembered") == 7


def test_it_is_durable_and_sorts_alike_on_every_machine(made: Path, project: Path) -> None:
    dsn = embedded.start(put(made, project))
    settings = ("server_encoding", "fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "TimeZone")
    assert [ask(dsn, f"show {name}") for name in settings] == ["UTF8", "on", "on", "on", "", "UTC"]
    assert (
        ask(dsn, "select datlocprovider::text || datlocale from pg_database where datname = 'postgres'") == "bC.UTF-8"
    )
    assert ask(dsn, "select upper('ñandú') || ('a' < 'B')") == "ÑANDÚfalse"


def test_it_outlives_the_process_that_started_it_and_psql_can_use_its_connection_string(
    made: Path, project: Path
) -> None:
    put(made, project)
    dsn = in_another_process(project)
    psql = embedded_home.programs(embedded_home.find_place(project)) / "psql"
    command = [str(psql), dsn, "-Atc", "select 41 + 1"]
    environment = {**os.environ, "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "none"}
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout == "42\n"
    assert embedded.start(project) == dsn


def test_processes_that_start_it_at_once_get_one_server(project: Path) -> None:
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(in_another_process, [project] * 3))
    assert len(set(found)) == 1
    assert ask(found[0], "select 1") == 1


def test_a_killed_server_comes_back_with_its_data_while_a_session_was_open(made: Path, project: Path) -> None:
    dsn = embedded.start(put(made, project))
    remember(dsn, 9)
    with psycopg.connect(dsn):
        os.kill(postmaster_pid(project), signal.SIGKILL)
        assert ask(embedded.start(project), "select value from remembered") == 9


@pytest.mark.parametrize("is_answering_file", [True, False], ids=["whole file", "only the pid"])
def test_a_pid_that_is_another_process_by_now_is_not_believed(
    made: Path, project: Path, is_answering_file: bool
) -> None:
    dsn = embedded.start(put(made, project))
    remember(dsn, 3)
    place = embedded_home.find_place(project)
    pid_file = place.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    embedded.stop(project)
    owner = {"user": place.user.pw_uid} if place.user else {}
    with subprocess.Popen(["sleep", "60"], **owner) as stranger:
        lines[0] = str(stranger.pid)
        pid_file.write_text("\n".join(lines if is_answering_file else lines[:1]) + "\n")
        try:
            assert not embedded.is_running(project)
            assert not embedded.stop(project)
            assert stranger.poll() is None
            assert ask(embedded.start(project), "select value from remembered") == 3
        finally:
            stranger.kill()


@pytest.mark.parametrize("name", ["with space", "a,b q'uo\"te $(touch owned)`id` ünï", "x" * 120])
def test_a_folder_with_any_name_will_do(made: Path, project: Path, name: str) -> None:
    work_dir = put(made, project / name / ".penstock")
    dsn = embedded.start(work_dir)
    assert ask(dsn, "show data_directory") == str(work_dir / "postgres")
    assert embedded.stop(work_dir)
    assert not Path("owned").exists()


def test_a_project_that_moved_while_its_server_ran_gets_it_back(made: Path, project: Path) -> None:
    before, after = project / "before" / ".penstock", project / "after" / ".penstock"
    put(made, before)
    remember(embedded.start(before), 5)
    before.parent.rename(after.parent)
    assert ask(embedded.start(after), "select value from remembered") == 5


def test_a_folder_that_was_deleted_under_a_running_server_is_made_anew(made: Path, project: Path) -> None:
    work_dir = put(made, project / ".penstock")
    embedded.start(work_dir)
    pid = postmaster_pid(work_dir)
    shutil.rmtree(work_dir)
    try:
        assert ask(embedded.start(work_dir), "select 1") == 1
    finally:
        os.kill(pid, signal.SIGQUIT)


def test_a_start_that_was_killed_half_way_is_begun_again(project: Path) -> None:
    left = project / "postgres.new"
    left.mkdir()
    (left / "PG_VERSION").write_text("18\n")
    assert ask(embedded.start(project), "select 1") == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: (data / "global" / "pg_control").unlink(), "could not open"),
        (lambda data: (data / "PG_VERSION").write_text("9\n"), "are of version 9, its programs of 18"),
    ],
    ids=["damaged", "other version"],
)
def test_data_that_cannot_be_used_are_told_of_and_left_alone(
    made: Path, project: Path, damage: Callable[[Path], object], reason: str
) -> None:
    put(made, project)
    damage(project / "postgres")
    before = sorted(path.name for path in (project / "postgres").iterdir())
    with pytest.raises(PublishError, match=reason):
        embedded.start(project)
    assert [name for name in before if name not in {p.name for p in (project / "postgres").iterdir()}] == []


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
def test_as_root_no_private_folder_is_opened(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (embedded, embedded_home):
        monkeypatch.setattr(module, "SHARED_HOME", project / "shared")
    private = project / "private"
    work_dir = private / "site" / ".penstock"
    work_dir.mkdir(parents=True)
    private.chmod(0o700)
    dsn = embedded.start(work_dir)
    try:
        assert ask(dsn, "select 1") == 1
        assert private.stat().st_mode & 0o777 == 0o700
        data = embedded.data_folder(work_dir)
        assert data.parent.parent == project / "shared"
        assert data.parent.name.startswith("site-")
        assert data.stat().st_mode & 0o777 == 0o700
        assert (embedded.is_running(work_dir), embedded.stop(work_dir)) == (True, True)
        private.chmod(0o755)
        assert embedded.data_folder(work_dir) == data  # what was published there stays there
    finally:
        embedded.stop(work_dir)


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
def test_as_root_data_that_became_unreachable_are_not_replaced_by_empty_ones(made: Path, project: Path) -> None:
    work_dir = project / "site" / ".penstock"
    put(made, work_dir)
    work_dir.parent.chmod(0o700)
    with pytest.raises(PublishError, match=r"cannot reach the embedded Postgres's data any more"):
        embedded.start(work_dir)
    work_dir.parent.chmod(0o755)


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
def test_as_root_programs_that_cannot_be_reached_are_copied(
    made: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Path(tempfile.mkdtemp(prefix="pk", dir="/tmp"))  # not in memory: programs may not be run from there
    shared.chmod(0o755)
    for module in (embedded, embedded_home):
        monkeypatch.setattr(module, "SHARED_HOME", shared)
    monkeypatch.setattr(embedded_home, "_can_run", lambda *_: False)
    try:
        dsn = embedded.start(put(made, project))
        running = Path(f"/proc/{postmaster_pid(project)}/exe").readlink()
        assert running.is_relative_to(shared / "programs")
        assert ask(dsn, "select 1") == 1
    finally:
        embedded.stop(project)
        shutil.rmtree(shared)


@pytest.mark.skipif(IS_ROOT, reason="root may run a server for any user")
def test_data_of_another_user_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.start(project)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(PublishError, match="belongs to user"):
        embedded.start(project)
    monkeypatch.undo()


def test_what_was_deleted_is_gone_and_the_next_start_begins_empty(made: Path, project: Path) -> None:
    assert not embedded.delete(project)
    remember(embedded.start(put(made, project)), 1)
    assert embedded.delete(project)
    assert (embedded.is_running(project), embedded.data_folder(project).exists()) == (False, False)
    with pytest.raises(psycopg.errors.UndefinedTable):
        ask(embedded.start(put(made, project)), "select value from remembered")


def test_stopping_ends_open_sessions_soon(made: Path, project: Path) -> None:
    connection = psycopg.connect(embedded.start(put(made, project)))
    connection.execute("select 1")
    began = time.monotonic()
    assert embedded.stop(project)
    assert time.monotonic() - began < 10
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")
    connection.close()


def test_a_run_that_ends_while_its_first_server_is_being_made_leaves_none_behind(project: Path) -> None:
    (project / "penstock.yml").write_text("")
    settings = load_settings(project, {})
    with ExitStack() as stack:
        PublishTarget(settings, stack).start()
    for thread in [thread for thread in threading.enumerate() if thread.name == "embedded-postgres"]:
        thread.join()
    assert (embedded.data_folder(settings.work_dir) / "PG_VERSION").exists()
    assert not embedded.is_running(settings.work_dir)
