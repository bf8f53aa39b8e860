"""A Postgres database as the warehouse: the same marts as on DuckDB, one run at once, no secret told, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from foundation import attaching
from foundation.attaching import inexact_columns
from foundation.errors import ConfigError, LockedError, StorageError
from foundation.events import Event
from foundation.settings import Output
from foundation.warehouse import PostgresWarehouse, Warehouse, address_of, hold_warehouse, open_warehouse, warehouse_at
from publishing.publish import publish
from publishing.releases import MartDelta, Origin
from publishing.rollback import rollback
from publishing.target import Destination
from tests.conftest import Project, copy_tree, create_database

PASSWORD = "hu'sh \\ 100%/@:x"
# Columns that differ from run to run are left out.
ROWS = {
    "employees": "* exclude (processed_at, metadata)",
    "department_headcounts": "*",
    "rejected_employees": "* exclude (load_id, run_id, loaded_at)",
    "outcomes_employees": "* exclude (load_id, run_id, loaded_at)",
}


def url_of(dsn: str) -> str:
    """A connection string as a user writes it, with a password, which a server that trusts us does not look at."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    login = f"{parts['user']}:{quote(PASSWORD, safe='')}"
    return f"postgresql://{login}@/{parts['dbname']}?host={quote(str(parts['host']), safe='')}&port={parts['port']}"


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> tuple[Project, PostgresWarehouse]:
    """A project that ran once over the sample data with its warehouse in Postgres; for looking only."""
    project = Project(copy_tree(tmp_path_factory.mktemp("postgres") / "pen stock"), create_database(postgres))
    warehouse = PostgresWarehouse(url_of(create_database(postgres)))
    done = project.run("run", WAREHOUSE_URL=warehouse.url, LOG_LEVEL="info")
    assert done.returncode == 0, done.stdout + done.stderr
    (project.root / "said.txt").write_text(done.stdout + done.stderr)
    return project, warehouse


@pytest.fixture
def warehouse(postgres: str) -> PostgresWarehouse:
    """An empty database."""
    return PostgresWarehouse(url_of(create_database(postgres)))


def marts(warehouse: Warehouse) -> dict[str, Any]:
    """Columns, types and rows of every mart."""
    found = {}
    with open_warehouse(warehouse, read_only=True) as connection:
        for mart, columns in ROWS.items():
            described = connection.execute(f"describe select {columns} from marts.{mart}").fetchall()
            rows = connection.execute(f"select {columns} from marts.{mart} order by all").fetchall()
            found[mart] = ([column[:2] for column in described], rows)
    return found


def test_both_engines_publish_the_same_rows(on_postgres: tuple[Project, PostgresWarehouse], first_run: Project) -> None:
    project, _ = on_postgres
    assert project.summary["as_of"] == first_run.summary["as_of"]
    assert project.published() == first_run.published()
    assert len(project.published()["employees"]) > 3000
    csv = Path("exports") / "employees.csv"
    assert (project.root / csv).read_bytes() == (first_run.root / csv).read_bytes()


def test_both_engines_build_the_same_marts(on_postgres: tuple[Project, PostgresWarehouse], first_run: Project) -> None:
    _, warehouse = on_postgres
    assert marts(warehouse) == marts(first_run.root / ".penstock" / "warehouse.duckdb")


def test_both_engines_keep_the_same_books_and_judge_alike(
    on_postgres: tuple[Project, PostgresWarehouse], first_run: Project
) -> None:
    project, _ = on_postgres
    for key in ("sources", "marts", "gates", "totals", "status", "is_balanced"):
        assert project.summary.get(key) == first_run.summary.get(key), key
    assert not (project.root / ".penstock" / "warehouse.duckdb").exists()


def test_the_password_is_nowhere_to_be_read(on_postgres: tuple[Project, PostgresWarehouse]) -> None:
    project, _ = on_postgres
    spellings = {text.encode() for text in (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), repr(PASSWORD)[1:-1])}
    holders = [
        str(file.relative_to(project.root))
        for file in project.root.rglob("*")
        if file.is_file() and any(text in file.read_bytes() for text in spellings)
    ]
    assert holders == []


def test_dead_letters_are_the_same_and_a_correction_is_published_and_resolved(
    on_postgres: tuple[Project, PostgresWarehouse], postgres: str, tmp_path: Path, first_run: Project
) -> None:
    first, warehouse = on_postgres
    copy = PostgresWarehouse(url_of(create_database(postgres, warehouse.parts()["dbname"])))
    target = create_database(postgres, psycopg.conninfo.conninfo_to_dict(first.dsn)["dbname"])
    project = Project(copy_tree(tmp_path / "elsewhere"), target)

    def letters(of: Project, **environment: str) -> dict[str, Any]:
        done = of.run("deadletters", "list", "--ids", "--json", "--limit", "10000", **environment)
        assert done.returncode == 0, done.stderr
        found = {each.pop("letter_id"): each for each in json.loads(done.stdout)}
        return {name: (each["stage"], each["line"], each["reasons"]) for name, each in found.items()}

    on_this = letters(project, WAREHOUSE_URL=copy.url)
    assert on_this == letters(first_run)
    (chosen, *_) = (name for name, each in on_this.items() if each[2] == "broken_quote")
    fixed = "F-1,Fixed Bell,fixed@example.com,30,Sales,50000,2020-01-02,true,,"
    (project.root / "c.ndjson").write_text(json.dumps({"letter_id": chosen, "record": fixed}) + "\n")
    for counts in ((1, 1, 0), (1, 0, 1)):
        done = project.run("replay", "c.ndjson", WAREHOUSE_URL=copy.url)
        assert done.returncode == 0, done.stdout + done.stderr
        totals = project.summary["totals"]
        assert (totals["read"], totals["loaded"], totals["skipped"]) == counts
    assert project.query("select name from employees where id = 'F-1'") == [("Fixed Bell",)]
    done = project.run("deadletters", "show", chosen, "--json", WAREHOUSE_URL=copy.url)
    assert (json.loads(done.stdout)["state"], json.loads(done.stdout)["attempts"]) == ("resolved", 2)
    done = project.run(
        "deadletters", "discard", "--stage", "parse", "--because", "old", "--json", WAREHOUSE_URL=copy.url
    )
    assert json.loads(done.stdout)["discarded"] == sum(each[0] == "parse" for each in on_this.values()) - 1


def test_a_second_run_reads_nothing_and_sends_nothing(
    on_postgres: tuple[Project, PostgresWarehouse], postgres: str, tmp_path: Path
) -> None:
    first, warehouse = on_postgres
    name = warehouse.parts()["dbname"]
    copy = PostgresWarehouse(url_of(create_database(postgres, name)))
    target = create_database(postgres, psycopg.conninfo.conninfo_to_dict(first.dsn)["dbname"])
    # A new machine: what was read is told by the warehouse alone.
    project = Project(copy_tree(tmp_path / "elsewhere"), target)
    done = project.run("run", WAREHOUSE_URL=copy.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.summary["totals"]["loaded"] == 0
    assert project.published() == first.published()
    file = project.root / "sample_data" / "employees" / "hr_2026.csv"
    with file.open("a") as added:
        added.write("N-1,Ada Newcomer,ada.newcomer@example.com,30,eng,70000,2024-02-29,true,,,\n")
    done = project.run("run", WAREHOUSE_URL=copy.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.summary["totals"]["loaded"] == 1
    rows = project.query("select name, department from employees where id = 'N-1'")
    assert rows == [("Ada Newcomer", "Engineering")]


@pytest.mark.parametrize("stage", ["ingest", "build"])
def test_a_killed_run_is_made_good_by_the_next(
    fresh_project: Project, warehouse: PostgresWarehouse, first_run: Project, stage: str
) -> None:
    process = fresh_project.start("run", WAREHOUSE_URL=warehouse.url)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"{stage} started"):
            time.sleep({"ingest": 1.2, "build": 1.5}[stage])
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = fresh_project.run("run", WAREHOUSE_URL=warehouse.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert fresh_project.published() == first_run.published()
    assert fresh_project.summary["is_balanced"]


def test_a_run_elsewhere_keeps_this_one_out(fresh_project: Project, warehouse: PostgresWarehouse) -> None:
    with hold_warehouse(warehouse):
        done = fresh_project.run("ingest", WAREHOUSE_URL=warehouse.url)
    assert done.returncode == 3
    assert "another run is going: server process" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout


def test_the_lock_goes_with_its_holder(warehouse: PostgresWarehouse) -> None:
    with hold_warehouse(warehouse), pytest.raises(LockedError), hold_warehouse(warehouse):
        pass
    with hold_warehouse(warehouse):
        pass


def test_a_lock_that_went_with_its_connection_is_taken_again_or_told(
    warehouse: PostgresWarehouse, postgres: str
) -> None:
    ended = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
    with hold_warehouse(warehouse) as keep, psycopg.connect(postgres, autocommit=True) as other:
        other.execute(ended, [warehouse.parts()["dbname"]])
        keep()
        with pytest.raises(LockedError), hold_warehouse(warehouse):
            pass
        other.execute(ended, [warehouse.parts()["dbname"]])
        with hold_warehouse(warehouse), pytest.raises(LockedError):
            keep()


@pytest.mark.parametrize("opened", [open_warehouse, hold_warehouse])
def test_a_server_out_of_reach_is_told_without_the_password(opened: Any) -> None:
    lost = PostgresWarehouse(f"postgresql://ann:{quote(PASSWORD, safe='')}@127.0.0.1:9/warehouse")
    with pytest.raises(StorageError) as caught, opened(lost):
        pass
    assert "127.0.0.1" in caught.value.one_line()
    assert "hu'sh" not in "".join(map(str, (caught.value, caught.value.__cause__, lost, repr(lost))))


def break_while_writing(warehouse: PostgresWarehouse, postgres: str) -> None:
    ended = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
    with open_warehouse(warehouse) as connection:
        connection.execute("create table numbers (number bigint)")
        connection.execute("begin")
        connection.execute("insert into numbers values (1)")
        with psycopg.connect(postgres, autocommit=True) as other:
            other.execute(ended, [warehouse.parts()["dbname"]])
        connection.execute("insert into numbers values (2)")


def test_a_connection_that_breaks_is_told_in_one_line(warehouse: PostgresWarehouse, postgres: str) -> None:
    with pytest.raises(StorageError, match="the warehouse cannot be used"):
        break_while_writing(warehouse, postgres)
    with open_warehouse(warehouse) as connection:
        assert connection.execute("select count(*) from numbers").fetchall() == [(0,)]


def test_what_does_not_fit_into_memory_goes_to_the_temporary_folder(
    warehouse: PostgresWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with open_warehouse(PostgresWarehouse(warehouse.url, tmp_path / "tmp" / "deep")) as connection:
        connection.execute("set memory_limit = '60MB'")
        rows = connection.execute("select md5(range::varchar) as text from range(2_000_000) order by text")
        assert rows.fetchone() is not None
        assert list((tmp_path / "tmp" / "deep").glob("attached-*/*"))
    assert list((tmp_path / "here").iterdir()) == []
    assert not list((tmp_path / "tmp" / "deep").glob("attached-*/*"))


def test_a_missing_extension_is_named(warehouse: PostgresWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "_PACKAGE", "package_that_is_not_there")
    with pytest.raises(ConfigError, match="install the package duckdb-extension-postgres-scanner=="):
        open_warehouse(warehouse).__enter__()


@pytest.mark.parametrize(
    "url", ["host=localhost dbname=x password=hush", "postgresql://u:hush@h:port/x", "mysql://u:hush@h/x"]
)
def test_what_is_no_connection_string_is_refused_unrepeated(fresh_project: Project, url: str) -> None:
    done = fresh_project.run("ingest", WAREHOUSE_URL=url)
    assert done.returncode == 2
    assert "WAREHOUSE_URL" in done.stderr
    assert "hush" not in done.stderr + done.stdout


def test_every_parameter_reaches_every_driver() -> None:
    warehouse = PostgresWarehouse("postgresql://ann@[::1]:6000/the%20house?sslmode=require&options=-c%20jit%3Doff")
    again = psycopg.conninfo.conninfo_to_dict(warehouse.driver_url())
    assert {name: str(value) for name, value in again.items()} == {
        "user": "ann",
        "host": "::1",
        "port": "6000",
        "dbname": "the house",
        "sslmode": "require",
        "options": "-c jit=off",
        "connect_timeout": "10",
    }
    assert warehouse_at(address_of(warehouse)) == warehouse
    with pytest.raises(ConfigError):
        PostgresWarehouse("postgresql://h/").parts()


def test_a_database_that_knows_only_ascii_is_refused(postgres: str) -> None:
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name} encoding 'UTF8' locale 'C' template template0".encode())
    warehouse = PostgresWarehouse(url_of(psycopg.conninfo.make_conninfo(postgres, dbname=name)))
    with pytest.raises(ConfigError, match="letters beyond ASCII"), hold_warehouse(warehouse):
        pass


def test_numbers_that_would_be_rounded_are_found(warehouse: PostgresWarehouse) -> None:
    with psycopg.connect(warehouse.url, autocommit=True) as connection:
        connection.execute("create schema marts")
        connection.execute(
            "create table marts.pay (exact numeric(38, 2), loose numeric, wide numeric(39, 2), id bigint)"
        )
    assert inexact_columns(warehouse, "marts") == ["pay.loose", "pay.wide"]


def test_dbt_build_by_hand_works_with_the_postgres_target(fresh_project: Project, warehouse: PostgresWarehouse) -> None:
    parts = warehouse.parts()
    named = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), "build", "--target", "postgres"],
        cwd=fresh_project.root,
        env=os.environ | {variable: parts[name] for variable, name in named.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "ERROR=0" in done.stdout


MART = "id integer, line integer, note text, amount numeric(18, 2), tags jsonb, seen_at timestamptz"
ORDERS = {
    (1, 1): "(1, 1, 'a', 100.10, '[1]', timestamptz '2026-01-01 00:00+00')",
    (1, 2): "(1, 2, null, 2.50, null, null)",
    (2, 1): """(2, 1, '', -1.00, '{"k": "v"}', timestamptz 'infinity')""",
}


def put_orders(warehouse: PostgresWarehouse, rows: dict[tuple[int, int], str]) -> None:
    """The mart built anew, as dbt does it, with its rows in another place each time."""
    with psycopg.connect(warehouse.url) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute("drop table if exists marts.orders")
        connection.execute(f"create table marts.orders ({MART})".encode())
        connection.execute(f"insert into marts.orders values {', '.join([*rows.values()][::-1])}".encode())


def test_only_changed_rows_leave_the_warehouse(warehouse: PostgresWarehouse, postgres: str) -> None:
    dsn = create_database(postgres)
    outputs = {"orders": Output(key=["id", "line"])}
    columns = "id, line, note, amount, tags::text, seen_at::text"

    def go() -> tuple[MartDelta, int]:
        events: list[Event] = []
        release = publish(warehouse, outputs, Destination(dsn), Origin("run"), events.append)
        return release.marts["orders"], next(e.counts["rows_total"] for e in events if e.name == "started")

    def rows(database: str, table: str) -> list[Any]:
        with psycopg.connect(database) as connection:
            return connection.execute(f"select {columns} from {table} order by 1, 2".encode()).fetchall()

    put_orders(warehouse, ORDERS)
    assert go() == (MartDelta(3, 0, 0, 3), 3)
    assert go() == (MartDelta(0, 0, 0, 3), 0)
    changed = {**ORDERS, (1, 1): ORDERS[1, 1].replace("100.10", "100.11"), (3, 1): ORDERS[1, 1].replace("(1,", "(3,")}
    del changed[1, 2]
    put_orders(warehouse, changed)
    assert go() == (MartDelta(1, 1, 1, 3), 2)
    assert rows(dsn, "orders") == rows(warehouse.url, "marts.orders")
    with psycopg.connect(dsn) as person:
        person.execute("update orders set note = 'by hand'")
        person.execute("insert into orders (id, line) values (9, 9)")
    go()
    assert rows(dsn, "orders") == rows(warehouse.url, "marts.orders")
    rollback(Destination(dsn), 1, Origin("back"), lambda _: None)
    assert len(rows(dsn, "orders")) == 3
    assert go() == (MartDelta(1, 1, 1, 3), 3)  # the target shows another release than the warehouse remembers
    put_orders(warehouse, {(1, 1): changed[1, 1]})
    assert go() == (MartDelta(0, 0, 2, 1), 0)
    assert rows(dsn, "orders") == rows(warehouse.url, "marts.orders")
