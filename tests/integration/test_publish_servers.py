"""Publishing to servers as they are out there: with TLS and passwords, restarted midway, on a disk that fills up."""

import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import psutil
import psycopg
import pytest
import trustme
from psycopg import sql

from foundation.errors import PublishError
from foundation.events import Emit, Event, ignore
from foundation.settings import Output
from publishing import releases
from publishing.memory import Memory
from publishing.publish import publish
from publishing.releases import Origin, Release
from publishing.target import Destination
from tests.conftest import Project, copy_tree
from tests.postgres_server import PASSWORD, PostgresServer, open_folder

OUTPUTS = {"orders": Output(key=["id"]), "totals": Output(key=["id"])}
ROWS = 100


def put_version(warehouse: Path, version: int, rows: int = ROWS) -> Path:
    """Two marts whose rows all hold `version`."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema if not exists marts")
        for mart in OUTPUTS:
            connection.execute(
                f"create or replace table marts.{mart} as select i::integer as id, {version} as version"
                f" from range({rows}) as t(i)"
            )
    return warehouse


def go(warehouse: Path, dsn: str, emit: Emit = ignore) -> Release:
    return publish(warehouse, OUTPUTS, Destination(dsn), Origin("run"), emit)


def ask(dsn: str, question: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(question.encode()).fetchall()


SHOWN = (
    "select version, count(*) from (select version from orders union all select version from totals) as t group by 1"
)


def shown(dsn: str) -> list[Any]:
    """The versions that readers see, with the number of their rows, and the releases."""
    return [ask(dsn, SHOWN), ask(dsn, "select release_id, marts from penstock.releases order by 1")]


def text_of(error: BaseException | None) -> str:
    """What messages and a traceback show of `error` and of what led to it."""
    if error is None:
        return ""
    return f"{error!s} {error!r} {error.args} " + text_of(error.__cause__) + text_of(error.__context__)


SPELLINGS = {PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), PASSWORD.replace("%", "%%")}


def refused(warehouse: Path, dsn: str) -> str:
    """The line that tells why a publish did not get in."""
    with pytest.raises(PublishError) as error:
        go(warehouse, dsn)
    assert not [spelling for spelling in SPELLINGS if spelling in text_of(error.value)]
    line = error.value.one_line()
    assert line.startswith("cannot connect to the publish target: ")
    return line


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that asks for a password, without TLS."""
    with open_folder() as folder:
        server = PostgresServer(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def dsn(server: PostgresServer) -> str:
    return server.url(server.create_database())


# TLS


HBA = """
hostssl all ada 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl all all 127.0.0.1/32 scram-sha-256
"""


def programs_with_tls() -> Path | None:
    """Programs of a Postgres of this machine that was built with TLS; the embedded one was not."""
    on_path = shutil.which("pg_config")
    found = [Path(on_path).parent] if on_path else []
    for folder in [*found, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]:
        if all((folder / program).exists() for program in ("postgres", "initdb", "pg_config")):
            options = subprocess.run([folder / "pg_config", "--configure"], capture_output=True, text=True, check=True)
            if "openssl" in options.stdout:
                return folder
    return None


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """Who signs certificates, and the file of its own."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "the root.pem"
    authority.cert_pem.write_to_path(file)
    return authority, file


@pytest.fixture(scope="module")
def tls(authority: tuple[trustme.CA, Path]) -> Iterator[PostgresServer]:
    """A server that only lets in who comes with TLS and a password, and Ada only with her certificate."""
    programs = programs_with_tls()
    if programs is None:
        pytest.skip("there is no Postgres with TLS on this machine: install that of the system")
    certificate = authority[0].issue_cert("localhost")
    with open_folder() as folder:
        files = {name: folder / f"{name}.pem" for name in ("ssl_cert_file", "ssl_key_file", "ssl_ca_file")}
        server = PostgresServer(
            folder, programs, hba=HBA, ssl="on", **{name: str(file) for name, file in files.items()}
        )
        server.give(files["ssl_cert_file"], certificate.cert_chain_pems[0].bytes().decode())
        server.give(files["ssl_key_file"], certificate.private_key_pem.bytes().decode())
        server.give(files["ssl_ca_file"], authority[0].cert_pem.bytes().decode())
        server.start()
        yield server
        server.stop()


def test_a_publish_and_the_commands_on_releases_go_over_tls_as_the_connection_string_asks(
    tls: PostgresServer, authority: tuple[trustme.CA, Path], tmp_path: Path
) -> None:
    dsn = tls.url(tls.create_database(), sslmode="verify-full", sslrootcert=str(authority[1]))
    ways: set[Any] = set()

    def look(event: Event) -> None:
        if event.name == "started":
            ways.update(
                ask(
                    dsn,
                    "select ssl, version from pg_stat_ssl join pg_stat_activity using (pid)"
                    " where application_name = 'penstock'",
                )
            )

    warehouse = tmp_path / "warehouse.duckdb"
    assert go(put_version(warehouse, 1), dsn, look).release_id == 1
    assert go(put_version(warehouse, 2), dsn, look).release_id == 2
    assert ways == {(True, "TLSv1.3")}

    project = Project(copy_tree(tmp_path / "pen stock"), dsn)
    assert [release["release_id"] for release in json.loads(project.run("releases", "--json").stdout)] == [2, 1]
    assert json.loads(project.run("diff", "--json").stdout)["marts"]["orders"]["rows_changed"] == ROWS
    back = project.run("rollback")
    assert back.returncode == 0, back.stderr
    assert shown(dsn)[0] == [(1, 2 * ROWS)]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"sslrootcert": "another"}, "certificate verify failed"),
        ({"sslrootcert": "/none.pem"}, 'root certificate file "/none.pem" does not exist'),
        ({"host": "127.0.0.1"}, 'server certificate for "localhost" does not match host name "127.0.0.1"'),
        ({"sslmode": "disable"}, "no encryption"),
    ],
    ids=["wrong root", "no root", "wrong host", "no TLS"],
)
def test_a_server_that_tls_does_not_prove_is_refused_in_a_line(
    tls: PostgresServer,
    authority: tuple[trustme.CA, Path],
    tmp_path: Path,
    parameters: dict[str, str],
    reason: str,
) -> None:
    another = tmp_path / "another.pem"
    trustme.CA().cert_pem.write_to_path(another)
    wanted = {"sslmode": "verify-full", "sslrootcert": str(authority[1])} | parameters
    if wanted["sslrootcert"] == "another":
        wanted["sslrootcert"] = str(another)
    database = tls.create_database()
    line = refused(put_version(tmp_path / "warehouse.duckdb", 1), tls.url(database, **wanted))
    assert reason in line
    assert f":{tls.port}, database {database}): check " in line
    assert "sslmode" in line.split(": check ")[1]


def test_a_server_without_tls_is_refused_where_tls_is_required(dsn: str, tmp_path: Path) -> None:
    line = refused(put_version(tmp_path / "warehouse.duckdb", 1), f"{dsn}sslmode=require")
    assert "server does not support SSL, but SSL was required (localhost:" in line
    assert ": check the host, sslmode, sslrootcert" in line


def test_a_client_certificate_is_shown_where_the_server_asks_for_one(
    tls: PostgresServer, authority: tuple[trustme.CA, Path], tmp_path: Path
) -> None:
    with psycopg.connect(tls.url(), autocommit=True) as connection:
        connection.execute("create role ada login")
        connection.execute(sql.SQL("alter role ada password {}").format(PASSWORD))
    database = tls.create_database("owner ada")
    warehouse = put_version(tmp_path / "warehouse.duckdb", 1)
    verified = {"user": "ada", "sslmode": "verify-full", "sslrootcert": str(authority[1])}
    assert "requires a valid client certificate" in refused(warehouse, tls.url(database, **verified))

    certificate = authority[0].issue_cert(common_name="ada")
    client = {"sslcert": tmp_path / "ada.pem", "sslkey": tmp_path / "ada.key"}
    certificate.cert_chain_pems[0].write_to_path(client["sslcert"])
    client["sslkey"].touch(mode=0o600)
    certificate.private_key_pem.write_to_path(client["sslkey"])
    dsn = tls.url(database, **verified, **{name: str(file) for name, file in client.items()})
    assert go(warehouse, dsn).release_id == 1
    assert shown(dsn)[0] == [(1, 2 * ROWS)]


# The password


def texts_of(warehouse: Path) -> Iterator[str]:
    """Every row of every table, as text: the file itself may hold it compressed."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        tables = connection.execute("select table_schema, table_name from information_schema.tables").fetchall()
        for schema, table in tables:
            yield from (
                text for (text,) in connection.execute(f'select t::varchar from "{schema}"."{table}" as t').fetchall()
            )


def test_the_password_is_nowhere_but_in_the_environment(server: PostgresServer, tmp_path: Path) -> None:
    project = Project(copy_tree(tmp_path / "pen stock"), server.url(server.create_database()))
    wrong = project.dsn.replace(quote(PASSWORD, safe=""), "mis%74aken")
    commands: set[str] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            for process in psutil.process_iter(["cmdline"]):
                commands.add(" ".join(process.info["cmdline"] or []))
            time.sleep(0.1)

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        try:
            done = project.run("run", is_cold=True, LOG_LEVEL="debug")
            turned_away = project.run("--debug", "publish", is_cold=True, DATABASE_URL=wrong, LOG_LEVEL="debug")
        finally:
            is_over.set()
        watching.result()
    assert done.returncode == 0, done.stderr
    assert turned_away.returncode == 7
    assert 'password authentication failed for user "postgres"' in turned_away.stderr
    assert "check the user and the password in DATABASE_URL" in turned_away.stderr

    secrets = {*SPELLINGS, "mistaken", "mis%74aken"}
    told = [done.stdout, done.stderr, turned_away.stdout, turned_away.stderr]
    places = {
        "output": told,
        "command lines": commands,
        "warehouse": list(texts_of(project.root / ".penstock" / "warehouse.duckdb")),
    }
    assert any("operations.cli" in command for command in commands)
    assert any("password authentication failed" in text for text in places["warehouse"])
    files = [file for file in project.root.rglob("*") if file.is_file()]
    assert {"penstock.log", "errors.log", "index.html", "warehouse.duckdb", "last_run.json"} <= {f.name for f in files}
    assert [name for name, texts in places.items() for text in texts for secret in secrets if secret in text] == []
    assert [file for file in files for secret in secrets if secret.encode() in file.read_bytes()] == []


# A server that is restarted


def interrupted(
    monkeypatch: pytest.MonkeyPatch, number: int, interrupt: Callable[[], None], work: Callable[[], Release]
) -> int:
    """Do `work` with an interruption before its call of that number to the target, or to its memory; all calls."""
    made = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **more: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
                interrupt()
            return call(*arguments, **more)

        return counting

    with monkeypatch.context() as patched:
        connection = psycopg.Connection
        for holder, name in (
            (connection, "execute"),
            (connection, "commit"),
            (psycopg.Copy, "write"),
            (Memory, "remember"),
        ):
            patched.setattr(holder, name, counted(getattr(holder, name)))
        work()
    return made


@contextmanager
def reading(dsn: str) -> Iterator[set[tuple[Any, ...]]]:
    """Read all the time, as far as the server lets in; gives every answer."""
    seen: set[tuple[Any, ...]] = set()
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            with suppress(psycopg.OperationalError), closing(psycopg.connect(dsn, autocommit=True)) as connection:
                while not is_over.is_set():
                    # Through a cursor: the connection's own way is counted.
                    seen.add(tuple(connection.cursor().execute(SHOWN.encode()).fetchall()))
                    time.sleep(0.005)
            time.sleep(0.01)

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        try:
            yield seen
        finally:
            is_over.set()
        reader.result()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_restart_at_any_statement_is_told_and_the_next_publish_goes_on_from_what_is_shown(
    server: PostgresServer, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: int
) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    go(put_version(warehouse, 0), dsn)
    put_version(warehouse, 1)
    calls = interrupted(monkeypatch, 0, lambda: None, lambda: go(warehouse, dsn))
    assert calls > 30
    numbers = sorted({*range(1, calls, calls // 6), calls - 1, calls})  # the last: the commit, and the note of it
    outcomes = []
    with reading(dsn) as seen:
        for version, number in enumerate(numbers, start=2):
            put_version(warehouse, version)
            before = shown(dsn)
            try:
                interrupted(monkeypatch, number, lambda: server.restart(how), lambda: go(warehouse, dsn))
                outcomes.append("")
                assert shown(dsn)[0] == [(version, 2 * ROWS)]
            except PublishError as error:
                outcomes.append(error.one_line())
                assert shown(dsn) == before
            assert go(warehouse, dsn).is_new == bool(outcomes[-1])
            assert shown(dsn)[0] == [(version, 2 * ROWS)]
    *failed, at_commit, at_note = outcomes
    assert [line for line in failed if not line.startswith("the connection was lost: ")] == []
    assert [
        line for line in failed if not line.endswith(": run again; the target still shows the release before")
    ] == []
    assert at_commit.startswith("the connection was lost while committing, and the release was not made")
    assert at_note == ""
    assert seen
    assert seen <= {((each, 2 * ROWS),) for each in range(version + 1)}
    first = ask(dsn, "select distinct version from public_history.orders_as_of(1)")
    assert first == [(0,)]


def test_a_first_publish_that_loses_its_commit_is_told_as_soon_as_the_server_is_back(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = put_version(tmp_path / "warehouse.duckdb", 1)
    one, other, dsn = [server.url(server.create_database()) for _ in range(3)]
    go(warehouse, one)  # makes the roles of all databases
    calls = interrupted(monkeypatch, 0, lambda: None, lambda: go(warehouse, other))

    def leave_for_a_while() -> None:
        server.stop()
        threading.Timer(2, server.start).start()

    began = time.monotonic()
    with pytest.raises(PublishError, match="lost while committing, and the release was not made"):
        interrupted(monkeypatch, calls - 1, leave_for_a_while, lambda: go(warehouse, dsn))
    assert 2 < time.monotonic() - began < 20
    assert go(warehouse, dsn).release_id == 1


def test_what_was_to_be_put_right_is_not_told_as_done_when_its_commit_is_lost(
    server: PostgresServer, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = put_version(tmp_path / "warehouse.duckdb", 1)
    go(warehouse, dsn)
    edit = "update orders set version = 77 where id = 3 returning id"
    ask(dsn, edit)
    calls = interrupted(monkeypatch, 0, lambda: None, lambda: go(warehouse, dsn))
    ask(dsn, edit)
    with pytest.raises(PublishError, match=r"the connection was lost: .*: run again"):
        interrupted(monkeypatch, calls - 1, server.restart, lambda: go(warehouse, dsn))
    assert (77, 1) in shown(dsn)[0]
    assert not go(warehouse, dsn).is_new
    assert shown(dsn)[0] == [(1, 2 * ROWS)]


# A disk that fills up


class SmallDisk:
    """A disk of its own, as large as is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, megabytes: int) -> None:
        """Have so much free from now on."""
        used = shutil.disk_usage(self.folder).used // 1024
        options = f"remount,size={used + megabytes * 1024}k"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with open_folder() as folder:
        small = folder / "small"
        small.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs", str(small)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may make a small disk")
        try:
            yield SmallDisk(small)
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.fixture
def dsn_on_disk(disk: SmallDisk, server: PostgresServer) -> Iterator[str]:
    """A database whose tables lie on the small disk; what else the server has lies elsewhere."""
    space = disk.folder / "space"
    space.mkdir(mode=0o700)
    shutil.chown(space, server.place.data.owner())
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create tablespace small location {}").format(str(space)))
        name = server.create_database("tablespace small")
        yield server.url(name)
        connection.execute(f"drop database {name} with (force)".encode())
        connection.execute("drop tablespace small")


MANY = 200_000


@pytest.mark.parametrize("is_first", [True, False], ids=["first publish", "change"])
def test_a_full_disk_of_the_target_is_told_and_once_there_is_space_the_next_publish_is_whole(
    disk: SmallDisk, dsn_on_disk: str, tmp_path: Path, is_first: bool
) -> None:
    dsn, warehouse = dsn_on_disk, tmp_path / "warehouse.duckdb"
    if not is_first:
        go(put_version(warehouse, 1), dsn)
    before = None if is_first else shown(dsn)
    put_version(warehouse, 2, MANY)
    for megabytes in (1, 8, 16):
        disk.leave(megabytes)
        with pytest.raises(PublishError) as full:
            go(warehouse, dsn)
        line = full.value.one_line()
        assert line.startswith("the publish target's disk is full: could not ")
        assert "No space left on device (localhost:" in line
        assert line.endswith(": make space there, then run again; the target still shows the release before")
        if is_first:
            assert ask(dsn, "select count(*) from pg_tables where schemaname in ('public', 'penstock')") == [(0,)]
        else:
            assert shown(dsn) == before
    disk.leave(500)
    assert go(warehouse, dsn).release_id == (1 if is_first else 2)
    assert shown(dsn)[0] == [(2, 2 * MANY)]
    assert not go(warehouse, dsn).is_new


def test_a_server_whose_whole_disk_is_full_shows_the_release_before_once_it_is_back(
    disk: SmallDisk, tmp_path: Path
) -> None:
    server = PostgresServer(disk.folder, max_wal_size="32MB", min_wal_size="32MB")
    server.start()
    try:
        dsn = server.url(server.create_database())
        warehouse = tmp_path / "warehouse.duckdb"
        go(put_version(warehouse, 1), dsn)
        before = shown(dsn)
        put_version(warehouse, 2, 3 * MANY)
        # Without space for its log the server ends all sessions, and tells only the one that wrote why.
        for megabytes, reason in ((0, "No space left"), (8, "disk is full"), (60, "disk is full|connection was lost")):
            disk.leave(megabytes)
            with pytest.raises(PublishError, match=reason) as full:
                go(warehouse, dsn)
            assert re.search("make space .*then run again|: run again", full.value.one_line())
        disk.leave(800)
        server.recover()
        assert shown(dsn) == before
        assert go(warehouse, dsn).release_id == 2
        assert shown(dsn)[0] == [(2, 6 * MANY)]
    finally:
        server.stop()


def test_a_disk_that_is_full_at_the_commit_is_named_too(
    disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "COMMIT_SECONDS", 3.0)
    server = PostgresServer(disk.folder)
    server.start()
    try:
        dsn = server.url(server.create_database())
        warehouse = tmp_path / "warehouse.duckdb"
        go(put_version(warehouse, 1), dsn)
        before = shown(dsn)
        commit = psycopg.Connection.commit

        def commit_without_space(connection: psycopg.Connection[Any]) -> None:
            monkeypatch.setattr(psycopg.Connection, "commit", commit)
            ask(dsn, "select pg_switch_wal()")  # the log goes on in a new file
            disk.leave(0)
            connection.commit()

        monkeypatch.setattr(psycopg.Connection, "commit", commit_without_space)
        with pytest.raises(
            PublishError, match=r"lost while committing, and the (release was|target does) not .*No space"
        ):
            go(put_version(warehouse, 2), dsn)
        disk.leave(800)
        server.recover()
        assert shown(dsn) == before
        assert go(warehouse, dsn).release_id == 2
    finally:
        server.stop()
