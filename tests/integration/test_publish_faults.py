"""Publishing when something gets in its way: readers always see one whole release, and a rerun puts all right."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from foundation.errors import ConfigError, LockedError, PublishError
from foundation.events import Emit, Event, ignore
from foundation.settings import Output
from publishing import embedded, target
from publishing.publish import publish
from publishing.releases import Origin, Release
from publishing.target import Destination

ROOT = Path(__file__).parents[2]
IN_MEMORY = Path("/dev/shm")
BASE = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 2**30 else Path("/tmp")
PASSWORD = "s3cr%40t-pässword"
OUTPUTS = {"orders": Output(key=["id"]), "totals": Output(key=["id"])}


@pytest.fixture(scope="module")
def work_dir() -> Iterator[Path]:
    """Where a server runs; a test may kill it."""
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=BASE))
    folder.chmod(0o755)
    embedded.start(folder)
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture
def dsn(work_dir: Path) -> Iterator[str]:
    """An empty database."""
    server = embedded.start(work_dir)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("drop database if exists test with (force)")  # a test that failed may have left it
        connection.execute("create database test")
    yield server.replace("/postgres?", "/test?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("drop database test with (force)")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pk", dir=BASE))
    yield path
    shutil.rmtree(path)


def warehouse_of(folder: Path, version: int, rows: int = 100) -> Path:
    """Two marts whose rows all hold `version`; the rows that are there depend on it too."""
    path = folder / f"{version}-{rows}.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema marts")
        for mart in OUTPUTS:
            connection.execute(
                f"create table marts.{mart} as select i::integer as id, {version} as version"
                f" from range({version % 3}, {rows}) as t(i)"
            )
    return path


def put_version(warehouse: Path, version: int) -> None:
    """Another version of all rows in a warehouse that is there."""
    with duckdb.connect(str(warehouse)) as connection:
        for mart in OUTPUTS:
            connection.execute(
                f"create or replace table marts.{mart} as select i::integer as id, {version} as version"
                f" from range({version % 3}, 100) as t(i)"
            )


def go(warehouse: Path, dsn: str, *, seconds: float = 2, run_id: str = "run", emit: Emit = ignore) -> Release:
    return publish(
        warehouse,
        OUTPUTS,
        Destination(dsn, "public", lock_timeout_seconds=seconds),
        Origin(run_id),
        emit,
    )


def ask(dsn: str, question: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(question).fetchall()


def content(dsn: str) -> list[Any]:
    """What readers see, without the times."""
    return [ask(dsn, f"select id, version from {mart} order by id") for mart in OUTPUTS] + [
        ask(dsn, "select release_id, marts from penstock.releases order by 1")
    ]


@contextmanager
def session(dsn: str, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, application_name="a report") as connection:
        for statement in statements:
            connection.execute(statement)
        yield connection
        connection.rollback()


def test_a_second_publisher_is_told_about_the_first_within_seconds(folder: Path, dsn: str) -> None:
    with session(dsn, f"select pg_advisory_xact_lock({target.PUBLISHER_LOCK})") as connection:
        first = connection.info.backend_pid
        began = time.monotonic()
        with pytest.raises(LockedError) as locked:
            go(warehouse_of(folder, 1), dsn)
        assert time.monotonic() - began < 20
    assert locked.value.what.startswith(f"another publish is under way by process {first} (postgres")
    go(warehouse_of(folder, 2), dsn)


def test_two_publishers_never_mix_their_marts(folder: Path, dsn: str) -> None:
    warehouses = [warehouse_of(folder, version, rows=20_000) for version in (1, 2)]

    def attempt(warehouse: Path) -> bool:
        with suppress(LockedError):
            go(warehouse, dsn)
            return True
        return False

    with ThreadPoolExecutor() as pool:
        assert any(pool.map(attempt, warehouses))
    versions = ask(dsn, "select distinct version from (table orders union all table totals) as t")
    assert versions in ([(1,)], [(2,)])


def test_a_lock_that_a_reader_keeps_is_waited_for_and_then_named(folder: Path, dsn: str) -> None:
    go(warehouse_of(folder, 1), dsn)
    before = content(dsn)
    with session(dsn, "lock table totals in access exclusive mode") as connection:
        reader = connection.info.backend_pid
        began = time.monotonic()
        with pytest.raises(LockedError) as locked:
            go(warehouse_of(folder, 2), dsn, seconds=0.5)
        assert 0.5 <= time.monotonic() - began < 3
    assert f"the table public.totals is in use by process {reader} (postgres, a report" in (locked.value.what)
    assert content(dsn) == before
    assert go(warehouse_of(folder, 3), dsn).release_id == 2


def test_a_reader_in_a_long_transaction_hinders_only_a_change_of_the_table(folder: Path, dsn: str) -> None:
    go(warehouse_of(folder, 1), dsn)
    wider = warehouse_of(folder, 3)
    with duckdb.connect(str(wider)) as connection:
        connection.execute("alter table marts.orders add column note varchar")
    with session(dsn, "set transaction isolation level repeatable read", "table orders", "table totals") as reader:
        assert go(warehouse_of(folder, 2), dsn, seconds=0.3).is_new
        assert reader.execute("select distinct version from totals").fetchall() == [(1,)]
        with pytest.raises(LockedError, match=r"public\.orders is in use by process \d+ \(postgres, a report"):
            go(wider, dsn, seconds=0.3)
    assert go(wider, dsn).is_new


def test_a_row_that_someone_keeps_locked_is_waited_for_and_then_told(folder: Path, dsn: str) -> None:
    go(warehouse_of(folder, 1), dsn)
    before = content(dsn)
    with (
        session(dsn, "select from orders where id = 5 for update"),
        pytest.raises(LockedError, match=r"a lock was not to be had: .*database test, table orders\): run again"),
    ):
        go(warehouse_of(folder, 2), dsn, seconds=0.3)
    assert content(dsn) == before


def test_readers_never_see_parts_of_two_releases(folder: Path, dsn: str) -> None:
    warehouses = [warehouse_of(folder, version, rows=300) for version in (1, 2, 3, 4)]
    go(warehouses[-1], dsn)
    is_over = threading.Event()
    seen: list[set[tuple[int, ...]]] = []

    def read_in_one_statement() -> int:
        reads = 0
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not is_over.is_set():
                query = "select version, count(*) from (table orders union all table totals) as t group by version"
                seen.append(set(connection.execute(query.replace("table", "select id, version from")).fetchall()))
                reads += 1
        return reads

    def read_in_one_snapshot(*marts: str) -> int:
        reads = 0
        with psycopg.connect(dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            while not is_over.is_set():
                counts: dict[int, int] = {}
                for mart in marts:
                    for version, count in connection.execute(
                        f"select version, count(*) from {mart} group by version"
                    ).fetchall():
                        counts[version] = counts.get(version, 0) + count
                connection.commit()
                seen.append(set(counts.items()))
                reads += 1
        return reads

    with ThreadPoolExecutor() as pool:
        readers = [
            pool.submit(read_in_one_statement),
            pool.submit(read_in_one_snapshot, "orders", "totals"),
            pool.submit(read_in_one_snapshot, "totals", "orders"),
        ]
        for i in range(16):
            go(warehouses[i % 4], dsn)
        is_over.set()
        assert min(reader.result() for reader in readers) > 16
    whole = {(v, 2 * (300 - v % 3)) for v in (1, 2, 3, 4)}
    assert [found for found in seen if len(found) != 1 or not found <= whole] == []


KILLED_PUBLISH = """
import os, signal, sys
from pathlib import Path
from foundation.events import ignore
from foundation.settings import Output
from publishing import publish as publishing
from publishing.releases import Origin
from publishing.target import Destination

point = sys.argv[3]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def emit(event):
    if f"{event.name} {event.source}" == point:
        die()
for module in (publishing, publishing.changes):
    if hasattr(module, point):
        setattr(module, point, die)
outputs = {name: Output(key=["id"]) for name in ("orders", "totals")}
publishing.publish(Path(sys.argv[1]), outputs, Destination(sys.argv[2]), Origin("killed"), emit)
"""


@pytest.mark.parametrize(
    ("point", "is_first"),
    [
        ("progressed orders", True),
        ("commit", True),
        ("started totals", False),
        ("apply", False),
        ("commit", False),
    ],
)
def test_a_publish_that_was_killed_changes_nothing_and_the_next_is_as_if_undisturbed(
    folder: Path, dsn: str, point: str, is_first: bool
) -> None:
    if not is_first:
        go(warehouse_of(folder, 1), dsn)
    before = None if is_first else content(dsn)
    warehouse = warehouse_of(folder, 2)
    command = [sys.executable, "-c", KILLED_PUBLISH, str(warehouse), dsn, point]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert ask(dsn, "select count(*) from pg_tables where schemaname in ('public', 'penstock')") == [
        (0 if is_first else 4,)
    ]
    assert is_first or content(dsn) == before
    release = go(warehouse, dsn)
    assert (release.release_id, release.is_new) == (1 if is_first else 2, True)
    assert ask(
        dsn, "select distinct version from (select version from orders union all select version from totals)"
    ) == [(2,)]
    assert not go(warehouse, dsn).is_new


KILLED_AT_STATEMENT = """
import os, signal, sys
from pathlib import Path
import psycopg
from foundation.events import ignore
from foundation.settings import Output
from publishing import memory, publish as publishing
from publishing.releases import Origin
from publishing.rollback import rollback
from publishing.target import Destination

left = int(sys.argv[4])
def counted(call):
    def counting(*arguments, **more):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **more)
    return counting
for holder, name in ((psycopg.Connection, "execute"), (psycopg.Connection, "commit"), (memory.Memory, "remember")):
    setattr(holder, name, counted(getattr(holder, name)))
if sys.argv[3] == "publish":
    outputs = {name: Output(key=["id"]) for name in ("orders", "totals")}
    publishing.publish(Path(sys.argv[1]), outputs, Destination(sys.argv[2]), Origin("killed"), ignore)
else:
    rollback(Destination(sys.argv[2]), 1, Origin("killed"), ignore)
print(-left)
"""


@pytest.mark.parametrize("what", ["publish", "rollback"])
def test_a_kill_at_any_statement_leaves_one_whole_release_and_the_next_publish_is_right(
    folder: Path, dsn: str, what: str
) -> None:
    def killed_at(number: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED_AT_STATEMENT, str(warehouse), dsn, what, str(number)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    warehouse = folder / "warehouse.duckdb"
    shutil.copy(warehouse_of(folder, 1), warehouse)
    go(warehouse, dsn)
    put_version(warehouse, 2)
    if what == "rollback":
        go(warehouse, dsn)
    version, shown = (1, 2) if what == "publish" else (2, 1)
    statements = int(killed_at(0).stdout)  # what it takes undisturbed
    assert statements > 20
    for number in range(1, statements + 1, max(1, statements // 12)):
        if what == "publish":
            shown = version + 1
            put_version(warehouse, shown)
        else:
            version, shown = 2, 1
            put_version(warehouse, 2)
            go(warehouse, dsn)
        before = content(dsn)
        assert killed_at(number).returncode == -signal.SIGKILL
        rows = [(i, shown) for i in range(shown % 3, 100)]
        assert content(dsn)[:2] == [rows, rows] or content(dsn) == before
        go(warehouse, dsn)
        version = max(shown, version)
        rows = [(i, version) for i in range(version % 3, 100)]
        assert content(dsn)[:2] == [rows, rows]
    first = [(i, 1) for i in range(1, 100)]
    for mart in OUTPUTS:
        assert ask(dsn, f"select id, version from public_history.{mart}_as_of(1) order by 1") == first


@pytest.mark.parametrize("point", ["progressed orders", "started totals", "progressed totals"])
def test_a_server_that_dies_while_publishing_keeps_the_release_before(
    folder: Path, work_dir: Path, dsn: str, point: str
) -> None:
    go(warehouse_of(folder, 1), dsn)
    before = content(dsn)
    postmaster = int((embedded.data_folder(work_dir) / "postmaster.pid").read_text().splitlines()[0])

    def kill_the_server(event: Event) -> None:
        if f"{event.name} {event.source}" == point:
            # All its processes: one that outlives the first for a moment may still carry out a commit.
            others = [pid for (pid,) in ask(dsn, "select pid from pg_stat_activity where pid <> pg_backend_pid()")]
            for pid in (postmaster, *others):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            while embedded.is_running(work_dir):
                time.sleep(0.01)

    with pytest.raises(PublishError, match=r"the connection was lost|terminat"):
        go(warehouse_of(folder, 2), dsn, emit=kill_the_server)
    embedded.start(work_dir)
    assert content(dsn) == before
    assert go(warehouse_of(folder, 2, rows=99), dsn).release_id == 2


def test_a_listener_that_fails_stops_the_publish_before_anything_is_seen(folder: Path, dsn: str) -> None:
    go(warehouse_of(folder, 1), dsn)
    before = content(dsn)

    def fail(event: Event) -> None:
        if event.source == "totals":
            raise RuntimeError("listener")

    with pytest.raises(RuntimeError, match="listener"):
        go(warehouse_of(folder, 2), dsn, emit=fail)
    assert content(dsn) == before


class CutAtCommit:
    """Stands between publisher and server, and cuts the first connection when it commits."""

    def __init__(self, folder: Path, server_socket: str, *, is_delivered: bool) -> None:
        self.server_socket = server_socket
        self.is_delivered = is_delivered
        self.has_cut = False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / ".s.PGSQL.5432"))
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.server_socket)
                for one, other, is_client in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=(one, other, is_client), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if is_client and b"COMMIT\0" in data and not self.has_cut:
                    self.has_cut = True
                    one.shutdown(socket.SHUT_RDWR)
                    if self.is_delivered:
                        other.sendall(data)
                        time.sleep(0.2)
                    break
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("is_delivered", [True, False], ids=["it was committed", "it was not committed"])
def test_a_lost_reply_to_the_commit_is_inquired_after(folder: Path, dsn: str, is_delivered: bool) -> None:
    go(warehouse_of(folder, 1), dsn)
    before = content(dsn)
    host = psycopg.conninfo.conninfo_to_dict(dsn)["host"]
    between = CutAtCommit(folder, f"{host}/.s.PGSQL.5432", is_delivered=is_delivered)
    through = f"postgresql://postgres@/test?host={folder}&port=5432"
    if is_delivered:
        release = go(warehouse_of(folder, 2), through)
        assert (release.release_id, release.is_new) == (2, True)
        assert ask(dsn, "select distinct version from totals") == [(2,)]
    else:
        with pytest.raises(PublishError, match="lost while committing, and the release was not made"):
            go(warehouse_of(folder, 2), through)
        assert content(dsn) == before
    assert between.has_cut
    between.listener.close()


def a_port_that_never_answers() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def text_of(error: BaseException | None) -> str:
    """What messages and a traceback show of `error` and of what led to it."""
    if error is None:
        return ""
    return f"{error!s} {error!r} {error.args} " + text_of(error.__cause__) + text_of(error.__context__)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("127.0.0.1:1/none", "Connection refused"),
        ("no-such-host.invalid/none", "cannot connect to the publish target"),
        ("/none?host=/nowhere", "No such file"),
        ("127.0.0.1:{silent}/none", "timeout"),
    ],
)
def test_a_target_that_cannot_be_reached_is_told_without_the_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, reason: str
) -> None:
    monkeypatch.setattr(target, "CONNECT_SECONDS", 2)
    with a_port_that_never_answers() as silent:
        place = place.format(silent=silent.getsockname()[1])
        with pytest.raises(PublishError, match=reason) as refused:
            go(warehouse_of(folder, 1), f"postgresql://ada:{PASSWORD}@{place}")
    assert "database none" in refused.value.where
    for secret in (PASSWORD, "s3cr@t-pässword"):
        assert secret not in text_of(refused.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql+psycopg2://ada:hidden@host/db",
        "mysql://ada:hidden@host/db",
        "postgresql://ada:hid%den@host/db",
        "postgresql://ada:hidden@host:port:5/db?nope=hidden",
        "host=localhost password='hidden",
        "hidden",
    ],
)
def test_a_malformed_connection_string_is_told_without_repeating_it(folder: Path, dsn: str) -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL is not a Postgres connection string") as refused:
        go(folder / "no.duckdb", dsn)
    assert "hid" not in text_of(refused.value)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (
            "create role bob nologin password 'hidden'",
            "cannot connect to the publish target: .*not permitted to log in",
        ),
        ("create role bob login password 'hidden'", "permission denied"),
    ],
)
def test_a_role_that_may_not_publish_is_told(folder: Path, dsn: str, prepare: str, reason: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(prepare)
    try:
        with pytest.raises(PublishError, match=reason) as refused:
            go(warehouse_of(folder, 1), dsn.replace("postgres@", "bob:hidden@"))
        assert "hidden" not in text_of(refused.value)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("drop role bob")


def test_a_message_of_the_driver_that_holds_the_password_is_cleaned() -> None:
    dsn = f"postgresql://ada:{PASSWORD}@db.example.com:6543/sales"
    with pytest.raises(PublishError) as told, target.explained(dsn):
        raise psycopg.OperationalError("no entry for s3cr@t-pässword\nadvice")
    assert told.value.one_line() == (
        "the connection was lost: no entry for *** (db.example.com:6543, database sales):"
        " run again; the target still shows the release before"
    )


def test_without_a_warehouse_nothing_is_asked_of_the_target(folder: Path) -> None:
    with pytest.raises(PublishError, match="there is no warehouse yet"):
        go(folder / "none.duckdb", "postgresql://ada@127.0.0.1:1/none")


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_session_that_the_administrator_ends_is_told(
    folder: Path, dsn: str, signal_number: Callable[[], int]
) -> None:
    function = "pg_terminate_backend" if signal_number == signal.SIGTERM else "pg_cancel_backend"
    go(warehouse_of(folder, 1), dsn)
    before = content(dsn)

    def end_it(event: Event) -> None:
        if event.name == "progressed":
            ask(dsn, f"select {function}(pid) from pg_stat_activity where application_name = 'penstock'")
            time.sleep(0.1)

    with pytest.raises(PublishError, match=r"administrator command|user request|connection was lost"):
        go(warehouse_of(folder, 2, rows=2_000_000), dsn, emit=end_it)
    assert content(dsn) == before
