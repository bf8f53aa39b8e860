"""Roles of the target: who publishes has no more rights than that, who reads can read and nothing else."""

import uuid
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from foundation.errors import PublishError
from foundation.events import ignore
from foundation.settings import Output, Roles
from publishing.publish import publish
from publishing.releases import Origin, Release
from publishing.rollback import rollback
from publishing.target import Destination
from tests.conftest import create_database


@pytest.fixture
def dsn(postgres: str) -> str:
    return create_database(postgres)


@pytest.fixture
def names() -> Roles:
    """Names that no other test has: roles belong to the whole server."""
    suffix = uuid.uuid4().hex[:8]
    return Roles(publisher=f"publisher_{suffix}", reader=f"reader_{suffix}")


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    put(path, 1)
    return path


def put(warehouse: Path, value: int) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute(
            f"create or replace table marts.orders as select i as id, {value} as v from range(3) as t(i)"
        )


def go(warehouse: Path, dsn: str, roles: Roles, schema: str = "public") -> Release:
    outputs = {"orders": Output(key=["id"])}
    return publish(warehouse, outputs, Destination(dsn, schema, 2, roles=roles), Origin("run"), ignore)


def log_in(dsn: str, role: str, options: str = "") -> str:
    """A new user that is in `role`, and nothing more; its connection string."""
    user = f"user_{uuid.uuid4().hex[:8]}"
    tell(dsn, f"create role {user} login {options}", *([f"grant {role} to {user}"] if role else []))
    return make_conninfo(dsn, user=user)


def tell(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def ask(dsn: str, question: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return [row[0] if len(row) == 1 else row for row in connection.execute(question.encode()).fetchall()]


OWNERS = (
    "select distinct c.relowner::regrole::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace"
    " where n.nspname in ('public', 'penstock', 'public_history') and c.relkind = 'r'"
)


def test_everything_belongs_to_the_publisher_and_its_members_can_publish(
    warehouse: Path, dsn: str, names: Roles
) -> None:
    go(warehouse, dsn, names)
    assert ask(dsn, OWNERS) == [names.publisher]
    assert names.publisher
    member = log_in(dsn, names.publisher)
    put(warehouse, 2)
    assert go(warehouse, member, names).release_id == 2
    assert rollback(Destination(member, roles=names), None, Origin("back"), ignore).release_id == 3
    assert ask(dsn, "select distinct v from orders") == [1]
    assert ask(dsn, OWNERS) == [names.publisher]


def test_the_publisher_has_no_right_beyond_what_it_publishes(warehouse: Path, dsn: str, names: Roles) -> None:
    tell(dsn, "create table salaries as select 1 as id")
    go(warehouse, dsn, names)
    assert names.publisher
    member = log_in(dsn, names.publisher)
    for statement in ("select * from salaries", "create schema other", "create role eve", "drop table salaries"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            tell(member, statement)
    flags = ask(dsn, f"select rolsuper, rolcreaterole, rolcanlogin from pg_roles where rolname = '{names.publisher}'")
    assert flags == [(False, False, False)]


def test_readers_can_read_marts_history_and_releases_and_change_nothing(
    warehouse: Path, dsn: str, names: Roles
) -> None:
    go(warehouse, dsn, names)
    put(warehouse, 2)
    go(warehouse, dsn, names)
    assert names.reader
    reader = log_in(dsn, names.reader)
    assert ask(reader, "select distinct v from orders") == [2]
    assert ask(reader, "select distinct v from public_history.orders_as_of(1)") == [1]
    assert ask(reader, "select max(release_id) from penstock.releases") == [2]
    for statement in (
        "update orders set v = 3",
        "truncate orders",
        "delete from penstock.releases",
        "drop table orders",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            tell(reader, statement)


def test_a_table_of_an_earlier_release_is_handed_over(warehouse: Path, dsn: str, names: Roles) -> None:
    go(warehouse, dsn, Roles(publisher=None, reader=None))
    assert ask(dsn, OWNERS) == ["postgres"]
    tell(dsn, "create view seen as select v from orders")
    put(warehouse, 2)
    go(warehouse, dsn, names)
    assert ask(dsn, OWNERS) == [names.publisher]
    assert ask(dsn, "select distinct v from seen") == [2]


def test_a_user_that_may_make_roles_makes_them(warehouse: Path, dsn: str, names: Roles) -> None:
    user = log_in(dsn, "", "createrole")
    name = user.split("user=")[1].split()[0]
    tell(dsn, f"grant create on database {psycopg.conninfo.conninfo_to_dict(dsn)['dbname']} to {name}")
    go(warehouse, user, names, "shown")
    assert ask(dsn, "select tableowner from pg_tables where schemaname = 'shown'") == [names.publisher]
    put(warehouse, 2)
    assert go(warehouse, user, names, "shown").release_id == 2


def test_a_user_that_may_make_no_roles_publishes_with_its_own_rights(warehouse: Path, dsn: str, names: Roles) -> None:
    user = log_in(dsn, "")
    name = user.split("user=")[1].split()[0]
    with pytest.raises(PublishError, match=r"permission denied .*grant it to the user of DATABASE_URL"):
        go(warehouse, user, names)
    tell(dsn, f"grant create on schema public to {name}", f"create schema penstock authorization {name}")
    tell(dsn, f"create schema public_history authorization {name}")
    assert go(warehouse, user, names).is_new
    assert ask(dsn, OWNERS) == [name]
    assert ask(dsn, f"select count(*) from pg_roles where rolname in ('{names.publisher}', '{names.reader}')") == [0]


def test_an_edit_is_noted_for_a_user_who_may_not_see_the_notes(warehouse: Path, dsn: str, names: Roles) -> None:
    go(warehouse, dsn, names)
    editor = log_in(dsn, "")
    name = editor.split("user=")[1].split()[0]
    tell(dsn, f"grant select, update on orders to {name}")
    tell(editor, "update orders set v = 9 where id = 1")
    assert ask(dsn, "select operation, role from penstock.edits") == [("update", name)]
    go(warehouse, dsn, names)
    assert ask(dsn, "select distinct v from orders") == [1]
