"""Publishing marts into a real Postgres: what readers get, and what it takes to change it."""

import datetime as dt
import shutil
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import psycopg
import pytest
from psycopg.rows import dict_row

from foundation.errors import ConfigError, PublishError
from foundation.events import Emit, Event, ignore
from foundation.settings import Output
from publishing import embedded
from publishing.publish import publish
from publishing.releases import MartDelta, Origin, Release
from publishing.target import Destination

IN_MEMORY = Path("/dev/shm")
BASE = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 2**30 else Path("/tmp")

OUTPUTS = {
    "employees": Output(key=["id"], unique=["email"], indexes=["department"], json_columns=["metadata"]),
    "department_headcounts": Output(key=["department"]),
}
EMPLOYEES = """
    id varchar not null, name varchar not null, email varchar not null, age integer not null,
    department varchar not null, salary decimal(12, 2) not null, join_date date, is_active boolean not null,
    metadata varchar
"""
ADA = ("1", "Ada", "ada@example.com", 36, "Engineering", Decimal("120000.50"), "2015-03-01", True, '{"team": 1}')
BOB = ("2", "Bob", "bob@example.com", 41, "Sales", Decimal("50000.00"), "2020-12-31", False, None)
CYD = ("3", "Cyd", "cyd@example.com", 29, "Sales", Decimal("0.01"), None, True, "[]")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=BASE))
    folder.chmod(0o755)
    yield embedded.start(folder)
    embedded.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """An empty database."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("create database test")
        yield server.replace("/postgres?", "/test?")
        connection.execute("drop database test with (force)")


@pytest.fixture
def warehouse() -> Iterator[Path]:
    """A warehouse with two marts: Ada and Bob, and how many work where."""
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=BASE))
    path = folder / "warehouse.duckdb"
    in_warehouse(path, "create schema marts")
    put_employees(path, ADA, BOB)
    yield path
    shutil.rmtree(folder)


def in_warehouse(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def put_employees(path: Path, *rows: tuple[Any, ...]) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"create or replace table marts.employees ({EMPLOYEES})")
        if rows:
            connection.executemany("insert into marts.employees values (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute(
            "create or replace table marts.department_headcounts as"
            " select department, count(*) as count_employees from marts.employees group by department"
        )


def go(
    warehouse: Path,
    dsn: str,
    outputs: dict[str, Output] = OUTPUTS,
    run_id: str = "run",
    *,
    schema: str = "public",
    emit: Emit = ignore,
) -> Release:
    return publish(
        warehouse,
        outputs,
        Destination(dsn, schema, lock_timeout_seconds=2),
        Origin(run_id),
        emit,
    )


def ask(dsn: str, question: str) -> list[Any]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        connection.execute("set timezone = 'UTC'")
        rows = connection.execute(question).fetchall()
        return [next(iter(row.values())) if len(row) == 1 else row for row in rows]


def tell(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def emails(dsn: str) -> list[Any]:
    return ask(dsn, "select id || ' ' || email from employees order by id")


def rows_with_versions(dsn: str) -> list[Any]:
    return ask(dsn, "select t.*, xmin, ctid from employees as t order by id") + ask(
        dsn, "select t.*, xmin, ctid from department_headcounts as t order by department"
    )


def unchanged(rows_total: int) -> MartDelta:
    return MartDelta(0, 0, 0, rows_total)


def test_the_first_publish_makes_tables_with_types_keys_and_indexes(warehouse: Path, dsn: str) -> None:
    release = go(warehouse, dsn)
    assert (release.release_id, release.run_id, release.is_new) == (1, "run", True)
    assert release.marts == {"department_headcounts": MartDelta(2, 0, 0, 2), "employees": MartDelta(2, 0, 0, 2)}
    columns = ask(
        dsn,
        "select column_name || ' ' || data_type || case is_nullable when 'NO' then ' not null' else '' end"
        " from information_schema.columns where table_schema = 'public' and table_name = 'employees'"
        " order by ordinal_position",
    )
    assert columns == [
        "id text not null",
        "name text not null",
        "email text not null",
        "age integer not null",
        "department text not null",
        "salary numeric not null",
        "join_date date",
        "is_active boolean not null",
        "metadata jsonb",
        "created_at timestamp with time zone not null",
        "updated_at timestamp with time zone not null",
    ]
    assert ask(
        dsn,
        "select pg_get_constraintdef(oid) from pg_constraint where contype in ('p', 'u')"
        " and connamespace::regnamespace::text in ('public', 'penstock') order by 1",
    ) == [
        "PRIMARY KEY (department)",
        "PRIMARY KEY (edit_id)",
        "PRIMARY KEY (id)",
        "PRIMARY KEY (release_id)",
        "UNIQUE (email) DEFERRABLE",
    ]
    assert ask(
        dsn, "select indexname from pg_indexes where schemaname = 'public' and tablename = 'employees' order by 1"
    ) == [
        "employees_department_idx",
        "employees_email_key",
        "employees_pkey",
    ]


def test_published_rows_have_the_values_of_the_mart_and_the_time_of_the_release(warehouse: Path, dsn: str) -> None:
    at = go(warehouse, dsn).published_at
    assert ask(dsn, "select * from employees where id = '1'") == [
        {
            "id": "1",
            "name": "Ada",
            "email": "ada@example.com",
            "age": 36,
            "department": "Engineering",
            "salary": Decimal("120000.50"),
            "join_date": dt.date(2015, 3, 1),
            "is_active": True,
            "metadata": {"team": 1},
            "created_at": at,
            "updated_at": at,
        }
    ]
    assert ask(dsn, "select release_id, run_id, schema_name, published_at, marts from penstock.releases") == [
        {
            "release_id": 1,
            "run_id": "run",
            "schema_name": "public",
            "published_at": at,
            "marts": {
                mart: {"rows_added": 2, "rows_changed": 0, "rows_removed": 0, "rows_total": 2}
                for mart in ("employees", "department_headcounts")
            },
        }
    ]


def test_a_second_publish_of_the_same_marts_touches_nothing(warehouse: Path, dsn: str) -> None:
    first = go(warehouse, dsn, run_id="first")
    before = rows_with_versions(dsn)
    second = go(warehouse, dsn, run_id="second")
    assert second == Release(
        first.release_id,
        "first",
        first.published_at,
        is_new=False,
        marts={"department_headcounts": unchanged(2), "employees": unchanged(2)},
        shows_release=1,
        oldest_retained=1,
    )
    assert rows_with_versions(dsn) == before
    assert ask(dsn, "select run_id from penstock.releases") == ["first"]


def test_json_that_means_the_same_is_no_change(warehouse: Path, dsn: str) -> None:
    put_employees(warehouse, (*ADA[:-1], '{"a": 1, "b": [1.0]}'))
    go(warehouse, dsn)
    put_employees(warehouse, (*ADA[:-1], '{ "b":[1.00],"a":1 }'))
    assert not go(warehouse, dsn).is_new


def test_only_rows_that_differ_are_touched(warehouse: Path, dsn: str) -> None:
    put_employees(warehouse, ADA, BOB, CYD)
    first = go(warehouse, dsn)
    before = {row["id"]: row for row in ask(dsn, "select t.*, xmin from employees as t")}
    bob = (*BOB[:3], 42, *BOB[4:])
    dee = ("4", "Dee", "dee@example.com", 50, "HR", Decimal(1), None, True, None)
    put_employees(warehouse, ADA, bob, dee)
    second = go(warehouse, dsn)
    assert (second.release_id, second.is_new) == (2, True)
    assert second.marts == {"department_headcounts": MartDelta(1, 1, 0, 3), "employees": MartDelta(1, 1, 1, 3)}
    after = {row["id"]: row for row in ask(dsn, "select t.*, xmin from employees as t")}
    assert after["1"] == before["1"]
    assert after["2"] == {**before["2"], "age": 42, "updated_at": second.published_at, "xmin": after["2"]["xmin"]}
    assert after["2"]["created_at"] == first.published_at
    assert (after["4"]["created_at"], after["4"]["updated_at"]) == (second.published_at, second.published_at)
    assert sorted(after) == ["1", "2", "4"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("1", "b@x"), ("2", "a@x")], ["1 b@x", "2 a@x"]),
        ([("1", "c@x"), ("2", "a@x"), ("3", "b@x")], ["1 c@x", "2 a@x", "3 b@x"]),
        ([("2", "a@x")], ["2 a@x"]),
        ([("2", "b@x"), ("3", "a@x")], ["2 b@x", "3 a@x"]),
        ([("1", "b@x"), ("3", "a@x")], ["1 b@x", "3 a@x"]),
        ([], []),
    ],
    ids=[
        "two rows swap",
        "a ring with a new row",
        "a removed row's goes to a standing one",
        "a removed row's goes to a new one",
        "one takes a removed row's and gives its own to a new one",
        "all rows leave",
    ],
)
def test_a_unique_value_may_move_between_rows(
    warehouse: Path, dsn: str, rows: list[tuple[str, str]], expected: list[str]
) -> None:
    def with_emails(pairs: list[tuple[str, str]]) -> list[tuple[Any, ...]]:
        return [(key, "N", email, *ADA[3:]) for key, email in pairs]

    put_employees(warehouse, *with_emails([("1", "a@x"), ("2", "b@x")]))
    go(warehouse, dsn)
    put_employees(warehouse, *with_emails(rows))
    go(warehouse, dsn)
    assert emails(dsn) == expected


def test_a_mart_without_rows_is_published_and_filled_later(warehouse: Path, dsn: str) -> None:
    put_employees(warehouse)
    assert go(warehouse, dsn).marts["employees"] == MartDelta(0, 0, 0, 0)
    assert not go(warehouse, dsn).is_new
    put_employees(warehouse, ADA)
    assert go(warehouse, dsn).marts["employees"] == MartDelta(1, 0, 0, 1)


# At the edges of what DuckDB has room for; the extension that writes them pads their decimals to a multiple of four.
DECIMALS: list[tuple[str, str, object]] = [
    (f"decimal({width}, {scale})", f"'{value:f}'", value)
    for width in (4, 5, 8, 9, 10, 17, 18, 19, 38)
    for scale in sorted({0, 1, *range(max(0, min(width, 36) - 3), min(width, 36) + 1)})
    for value in (Decimal(f"{digit}E-{scale}") for digit in (10**width - 1, -(10 ** (width - 1)), 1))
]
# Type, value as DuckDB writes it, value as psycopg reads it.
VALUES: list[tuple[str, str, object]] = [
    ("varchar", "''", ""),
    ("varchar", "null", None),
    ("varchar", "'NULL'", "NULL"),
    ("varchar", r"'\N'", r"\N"),
    ("varchar", r"'\.'", r"\."),
    ("varchar", r"'a' || chr(10) || '\.' || chr(10) || 'b'", "a\n\\.\nb"),
    ("varchar", "'a' || chr(13) || chr(10) || chr(9) || 'b' || chr(13)", "a\r\n\tb\r"),
    ("varchar", """'"quoted", ''twice'' "" \\ %s {x}'""", "\"quoted\", 'twice'  \\ %s {x}".replace("  ", ' "" ')),
    ("varchar", "' padded '", " padded "),
    ("varchar", "'Zoë 李 👩🏽‍💻 \u202e\ufeff\u2028'", "Zoë 李 👩🏽‍💻 \u202e\ufeff\u2028"),
    ("varchar", "repeat('x', 300000)", "x" * 300_000),
    (
        "decimal(38, 10)",
        "1234567890123456789012345678.0123456789",
        Decimal("1234567890123456789012345678.0123456789"),
    ),
    ("decimal(12, 2)", "-0.10", Decimal("-0.10")),
    ("hugeint", "-99999999999999999999999999999999999999", Decimal(1 - 10**38)),
    ("ubigint", "18446744073709551615", Decimal(2**64 - 1)),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("smallint", "-1", -1),
    ("double", "0.1", 0.1),
    ("double", "5e-324", 5e-324),
    ("double", "1.7976931348623157e308", 1.7976931348623157e308),
    ("double", "'-infinity'", float("-inf")),
    ("boolean", "false", False),
    ("boolean", "null", None),
    ("date", "'2024-02-29'", dt.date(2024, 2, 29)),
    ("date", "'0001-01-01'", dt.date(1, 1, 1)),
    ("timestamp", "'2024-01-02 03:04:05.000006'", dt.datetime(2024, 1, 2, 3, 4, 5, 6)),
    (
        "timestamptz",
        "'2024-07-01 00:30:00.5+05:30'",
        dt.datetime(2024, 6, 30, 19, 0, 0, 500_000, tzinfo=dt.UTC),
    ),
    ("time", "'23:59:59.999999'", dt.time(23, 59, 59, 999_999)),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    ("blob", r"'\x00\xFFa'::blob", b"\x00\xffa"),
    ("json", """'{"a": [1, null, "\\u00e9\\n\\\\u0000"], "b": 1e2}'""", {"a": [1, None, "é\n\\u0000"], "b": 100}),
    ("json", "'null'", None),
    ("varchar[]", "['a', null, '', 'q\"\\']", ["a", None, "", 'q"\\']),
    ("struct(a integer, b date)", "{'a': 1, 'b': date '2024-01-02'}", {"a": 1, "b": "2024-01-02"}),
    ("map(varchar, integer)", "map {'k': 1}", {"k": 1}),
    ("enum('x', 'y')", "'y'", "y"),
    *[(kind, f"{value}", value) for kind, value in (("tinyint", -128), ("utinyint", 255), ("usmallint", 65_535))],
    *[(kind, f"{value}", value) for kind, value in (("uinteger", 2**32 - 1), ("integer", -(2**31)), ("uhugeint", 7))],
    *[(f"timestamp_{unit}", "'2024-01-02 03:04:05'", dt.datetime(2024, 1, 2, 3, 4, 5)) for unit in ("s", "ms")],
    *DECIMALS,
]
# The same, with the value as text, because Python holds none like it.
ODD_VALUES: list[tuple[str, str, object]] = [
    ("date", "'0044-03-15 (BC)'", "0044-03-15 BC"),
    ("date", "'12024-01-01'", "12024-01-01"),
    ("date", "'infinity'", "infinity"),
    ("timestamp", "'0044-03-15 (BC) 12:30:00'", "0044-03-15 12:30:00 BC"),
    ("timestamptz", "'-infinity'", "-infinity"),
    ("double", "'nan'", "NaN"),
    ("float", "0.1", "0.1"),
]


@pytest.mark.parametrize(("cases", "read_as"), [(VALUES, ""), (ODD_VALUES, "::text")], ids=["values", "odd values"])
def test_values_arrive_exactly(warehouse: Path, dsn: str, cases: list[tuple[str, str, object]], read_as: str) -> None:
    columns = ", ".join(f"({literal})::{of_type} as v{i}" for i, (of_type, literal, _) in enumerate(cases))
    in_warehouse(warehouse, f"create table marts.things as select 1 as id, {columns}")
    read = ", ".join(f"v{i}{read_as} as v{i}" for i in range(len(cases)))
    outputs = {"things": Output(key=["id"])}
    for is_first in (True, False):  # straight into a new table, then through a temporary one
        assert go(warehouse, dsn, outputs).is_new == is_first
        assert not go(warehouse, dsn, outputs).is_new
        assert ask(dsn, f"select 1 as one, {read} from things") == [
            {"one": 1, **{f"v{i}": value for i, (_, _, value) in enumerate(cases)}}
        ]
        tell(dsn, f"update things set {', '.join(f'v{i} = null' for i in range(len(cases)))}")


def test_hostile_column_names_and_keys_of_several_columns_are_no_trouble(warehouse: Path, dsn: str) -> None:
    names = ['a"b', "x'; drop table employees; --", "Select", "%s", "{0}", "with space", "d", "s", "t", "penstock"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    outputs = {"things": Output(key=["id", "part"])}
    for value in ("old", "new"):
        columns = ", ".join(f"'{value}' as {name}" for name in quoted)
        rows = "select i as id, j as part, {} from range(3) as a(i), range(2) as b(j)"
        in_warehouse(warehouse, f"create or replace table marts.things as {rows.format(columns)}")
        go(warehouse, dsn, outputs)
        found = ask(dsn, "select * from things order by id, part")
        assert [{k: v for k, v in row.items() if not k.endswith("_at")} for row in found] == [
            {"id": i, "part": j, **dict.fromkeys(names, value)} for i in range(3) for j in range(2)
        ]


def test_a_new_column_is_added_and_filled(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn)
    in_warehouse(
        warehouse,
        "alter table marts.employees add column grade varchar",
        "update marts.employees set grade = 'Senior' where id = '1'",
        "alter table marts.department_headcounts add column total decimal(12, 2) default 5.5",
        "alter table marts.department_headcounts alter total set not null",
    )
    release = go(warehouse, dsn)
    assert release.marts == {"department_headcounts": MartDelta(0, 2, 0, 2), "employees": MartDelta(0, 1, 0, 2)}
    assert ask(dsn, "select grade from employees order by id") == ["Senior", None]
    assert ask(dsn, "select total from department_headcounts") == [Decimal("5.50")] * 2
    required = (
        "select is_nullable from information_schema.columns where table_schema = 'public' and column_name = 'total'"
    )
    assert ask(dsn, required) == ["NO"]


def test_a_wider_type_is_taken_over_with_the_history(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn)
    in_warehouse(
        warehouse,
        "alter table marts.employees alter age type bigint",
        "update marts.employees set age = 3000000000 where id = '1'",
    )
    assert go(warehouse, dsn).marts["employees"] == MartDelta(0, 1, 0, 2)
    assert ask(dsn, "select age from employees order by id") == [3_000_000_000, 41]
    assert ask(dsn, "select age from public_history.employees_as_of(1) order by id") == [36, 41]
    assert ask(dsn, "select pg_typeof(age)::text from employees limit 1") == ["bigint"]


def test_a_wider_type_under_a_view_is_refused_with_the_view(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn)
    tell(dsn, "create view ages as select id, age from employees")
    in_warehouse(warehouse, "alter table marts.employees alter age type bigint")
    with pytest.raises(
        PublishError, match=r"age is integer and became bigint, and ages uses it: drop that first"
    ) as told:
        go(warehouse, dsn)
    assert 'alter table "public"."employees" alter column "age" type bigint' in told.value.one_line()
    assert ask(dsn, "select age from ages order by id") == [36, 41]


def test_constraints_and_indexes_that_are_asked_for_later_are_made(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn, {"employees": Output(key=["id"], json_columns=["metadata"])})
    release = go(warehouse, dsn, {"employees": OUTPUTS["employees"]})
    assert release.is_new
    names = ["employees_department_idx", "employees_email_key", "employees_pkey"]
    assert (
        ask(dsn, "select indexname from pg_indexes where schemaname = 'public' and tablename = 'employees' order by 1")
        == names
    )
    assert not go(warehouse, dsn, {"employees": OUTPUTS["employees"]}).is_new


def test_a_table_that_holds_wider_types_or_generated_columns_is_left_as_it_is(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn)
    tell(
        dsn,
        "alter table employees alter column age type bigint",
        "alter table employees add column initial text generated always as (substr(name, 1, 1)) stored",
        "create view adults as select id, age from employees",
        "grant select on employees to pg_monitor",
    )
    put_employees(warehouse, ADA, CYD)
    assert go(warehouse, dsn).marts["employees"] == MartDelta(1, 0, 1, 2)
    assert ask(dsn, "select age from adults order by id") == [36, 29]
    assert ask(dsn, "select initial from employees order by id") == ["A", "C"]


REFUSALS = {
    "dropped column": (
        ["alter table marts.employees drop column age"],
        "column age has left the mart",
        'alter table "public"."employees" drop column "age"',
    ),
    "other type": (
        ["alter table marts.employees alter age type varchar"],
        "column age is integer and became text",
        'alter table "public"."employees" alter column "age" type text using "age"::text',
    ),
    "nulls": (
        ["alter table marts.employees alter name drop not null", "update marts.employees set name = null"],
        "column name is not null and the mart has nulls",
        'alter table "public"."employees" alter column "name" drop not null',
    ),
    "two at once": (
        ["alter table marts.employees drop column age", "alter table marts.employees alter name type integer using 1"],
        "column name is text and became integer; column age has left the mart",
        'alter table "public"."employees" alter column "name" type integer using "name"::integer, drop column "age"',
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_change_that_could_lose_data_is_refused_with_the_statement_to_run(
    warehouse: Path, dsn: str, refusal: str
) -> None:
    changes, reason, statement = REFUSALS[refusal]
    go(warehouse, dsn)
    before = rows_with_versions(dsn)
    in_warehouse(warehouse, *changes)
    with pytest.raises(PublishError) as refused:
        go(warehouse, dsn)
    assert reason in refused.value.what
    assert refused.value.fix == f"change the model back, or run in the target: {statement}"
    assert rows_with_versions(dsn) == before
    if "name" not in statement or "drop not null" in statement:
        tell(dsn, statement)
        go(warehouse, dsn)


def test_another_key_is_refused_with_the_statement_to_run(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn)
    outputs = {"employees": Output(key=["email"], json_columns=["metadata"])}
    statement = 'alter table "public"."employees" drop constraint "employees_pkey", add primary key ("email")'
    with pytest.raises(PublishError, match=r"the key is \(id\) and became \(email\)") as refused:
        go(warehouse, dsn, outputs)
    assert refused.value.fix.endswith(statement)
    tell(dsn, statement)
    go(warehouse, dsn, outputs)


def test_a_view_in_the_place_of_a_table_is_refused(warehouse: Path, dsn: str) -> None:
    tell(dsn, "create view employees as select 1 as id")
    with pytest.raises(PublishError, match=r"public\.employees is in the target, but not as a table"):
        go(warehouse, dsn)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("set name = 'a' || chr(0)", "employees.name holds a NUL byte in 2 rows"),
        ("set metadata = '{\"a\": \"\\\\\\u0000\"}' where id = '1'", "employees.metadata holds a NUL byte in 1 row"),
        ("set metadata = '{''a'': 1}' where id = '1'", "employees.metadata holds text that is not JSON in 1 row"),
        ("set metadata = '' where id = '1'", "employees.metadata holds text that is not JSON in 1 row"),
    ],
)
def test_values_that_postgres_cannot_hold_are_named_and_nothing_is_published(
    warehouse: Path, dsn: str, change: str, what: str
) -> None:
    in_warehouse(warehouse, f"update marts.employees {change}")
    with pytest.raises(PublishError) as refused:
        go(warehouse, dsn)
    assert refused.value.what == what
    assert refused.value.where == "marts.employees, first where 'id = 1'"
    assert ask(dsn, "select count(*) from pg_namespace where nspname = 'penstock'") == [0]


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        (f"{10**38}::hugeint", "a number of more than 38 digits"),
        (f"-{10**38}::hugeint", "a number of more than 38 digits"),
        ("date '5880000-01-01'", "a day that Postgres does not know"),
        ("date '4800-01-01 (BC)'", "a day that Postgres does not know"),
        ("timestamp '4800-01-01 (BC) 00:00:00'", "a day that Postgres does not know"),
    ],
)
def test_values_beyond_what_postgres_or_its_binary_form_can_hold_are_named(
    warehouse: Path, dsn: str, value: str, flaw: str
) -> None:
    outputs = {"things": Output(key=["id"])}
    many = "create or replace table marts.things as select i as id, {} as v from range(50000) as t(i)"
    for is_first in (True, False):
        in_warehouse(warehouse, many.format(f"if(i = 49000, {value}, null)"))
        with pytest.raises(PublishError) as refused:
            go(warehouse, dsn, outputs)
        assert refused.value.what == f"things.v holds {flaw} in 1 row"
        assert refused.value.where == "marts.things, first where 'id = 49000'"
        if is_first:
            in_warehouse(warehouse, many.format(f"if(false, {value}, null)"))
            go(warehouse, dsn, outputs)
    assert ask(dsn, "select count(*) from things where v is null") == [50_000]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("update marts.employees set id = null", "employees.id holds no value in a key column in 2 rows"),
        ("update marts.employees set id = '1'", r"two rows have the same \(id\)"),
        ("update marts.employees set email = 'x'", r"two rows have the same \(email\)"),
        ("update marts.employees set metadata = '{\"a\": NaN}'", "Postgres refused a row.*employees, column metadata"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_mart_that_breaks_its_keys_is_not_published(
    warehouse: Path, dsn: str, change: str, message: str, is_first: bool
) -> None:
    if not is_first:
        put_employees(warehouse, CYD)
        go(warehouse, dsn)
        put_employees(warehouse, ADA, BOB)
    in_warehouse(warehouse, "alter table marts.employees alter id drop not null", change)
    with pytest.raises(PublishError, match=message):
        go(warehouse, dsn)
    assert ask(dsn, "select count(*) from pg_tables where schemaname = 'public'") == [0 if is_first else 2]
    assert is_first or emails(dsn) == ["3 cyd@example.com"]


def test_two_rows_with_the_key_of_a_standing_row_are_not_published(warehouse: Path, dsn: str) -> None:
    put_employees(warehouse, ADA)
    go(warehouse, dsn)
    put_employees(warehouse, ADA, (*ADA[:2], "ada2@example.com", *ADA[3:]))
    with pytest.raises(PublishError, match=r"two rows have the same \(id\)"):
        go(warehouse, dsn)
    assert emails(dsn) == ["1 ada@example.com"]


def test_a_table_that_changes_what_is_written_is_found_out(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn)
    tell(
        dsn,
        "create function round_it() returns trigger language plpgsql as"
        " $$ begin new.salary = round(new.salary); return new; end $$",
        "create trigger round_it before insert or update on employees for each row execute function round_it()",
    )
    before = rows_with_versions(dsn)
    put_employees(warehouse, (*ADA[:5], Decimal("1.50"), *ADA[6:]), BOB)
    with pytest.raises(PublishError, match=r"sum of salary: the mart has 50001\.50, the table would have 50002\.00"):
        go(warehouse, dsn)
    assert rows_with_versions(dsn) == before


def test_rows_that_someone_changed_in_the_target_are_put_right(warehouse: Path, dsn: str) -> None:
    go(warehouse, dsn)
    tell(dsn, "update employees set age = 1 where id = '1'", "delete from employees where id = '2'")
    assert go(warehouse, dsn).marts["employees"] == MartDelta(0, 0, 0, 2)
    assert ask(dsn, "select age from employees order by id") == [36, 41]


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (
            {"employee": Output(key=["id"])},
            PublishError,
            r"the mart employee is not in the warehouse \(outputs.employee\): build it, or write employees in",
        ),
        (
            {"employees": Output(key=["idd"])},
            ConfigError,
            r"no column 'idd' .*outputs.employees.key\): did you mean id",
        ),
        ({"employees": Output(key=["id"], unique=["mail"])}, ConfigError, r"'mail' .*\.unique\): did you mean email"),
        ({"employees": Output(key=["id"], indexes=["nope"])}, ConfigError, r"'nope' .*\.indexes\): it has id, name"),
        ({"employees": Output(key=["id"], json_columns=["x"])}, ConfigError, r"'x' .*\.json_columns\)"),
        ({"employees": Output(key=["id"], json_columns=["age"])}, ConfigError, r"'age' .* is INTEGER, not text"),
        (
            {"employees": Output(key=["id"], export={"formats": ["csv"], "columns": {"agee": "Age"}})},
            ConfigError,
            r"'agee' .*\.export\.columns\): did you mean age",
        ),
    ],
)
def test_an_output_that_does_not_fit_its_mart_is_told_before_the_target_is_asked(
    warehouse: Path, outputs: dict[str, Output], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        go(warehouse, "postgresql://nobody@127.0.0.1:1/none", outputs)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("now() as updated_at", "has a column updated_at, which publishing adds"),
        ("interval 1 day as value", r"things\.value is of type INTERVAL, which cannot be published exactly"),
        ("timestamp_ns '2024-01-01' as value", "TIMESTAMP_NS, which cannot"),
        ("0::decimal(38, 37) as value", r"DECIMAL\(38,37\), which cannot"),
        (f"1 as {'x' * 64}", "longer than 63 bytes"),
    ],
)
def test_a_column_that_cannot_be_published_is_told(warehouse: Path, dsn: str, column: str, message: str) -> None:
    in_warehouse(warehouse, f"create table marts.things as select 1 as id, {column}")
    with pytest.raises(PublishError, match=message):
        go(warehouse, dsn, {"things": Output(key=["id"])})


def test_names_as_long_as_allowed_make_names_that_differ(warehouse: Path, dsn: str) -> None:
    mart, one, two = "m" * 60, "c" * 62 + "1", "c" * 62 + "2"
    in_warehouse(warehouse, f"create table marts.{mart} as select 1 as id, 2 as {one}, 3 as {two}")
    outputs = {mart: Output(key=["id"], unique=[one, two], indexes=[one])}
    assert go(warehouse, dsn, outputs).is_new
    assert not go(warehouse, dsn, outputs).is_new
    assert ask(dsn, f"select count(*) from pg_indexes where schemaname = 'public' and tablename = '{mart}'") == [3]


def test_events_tell_how_far_each_mart_is(warehouse: Path, dsn: str) -> None:
    events: list[Event] = []
    go(warehouse, dsn, schema="shown", emit=events.append)
    assert [(e.name, e.stage, e.source, dict(e.counts)) for e in events if e.source == "employees"] == [
        ("started", "publish", "employees", {"rows_total": 2}),
        ("progressed", "publish", "employees", {"rows_sent": 2, "rows_total": 2}),
        (
            "finished",
            "publish",
            "employees",
            {"rows_added": 2, "rows_changed": 0, "rows_removed": 0, "rows_total": 2},
        ),
    ]
    assert ask(dsn, "select count(*) from shown.employees") == [2]


def test_schemas_of_one_database_have_their_own_releases(warehouse: Path, dsn: str) -> None:
    def to(schema: str) -> Release:
        return go(warehouse, dsn, schema=schema, run_id=schema)

    assert [to(schema).release_id for schema in ("a", "b", "a")] == [1, 2, 1]


def test_settings_of_the_target_do_not_change_what_is_published(warehouse: Path, dsn: str) -> None:
    tell(
        dsn,
        "alter database test set datestyle = 'German'",
        "alter database test set timezone = 'Asia/Kathmandu'",
        "alter database test set extra_float_digits = -15",
        "alter database test set search_path = 'nowhere'",
        "alter database test set default_transaction_read_only = on",
        "alter database test set default_transaction_isolation = 'serializable'",
    )

    go(warehouse, dsn)
    assert not go(warehouse, dsn).is_new
    with psycopg.connect(dsn, options="-c datestyle=ISO") as connection:
        assert connection.execute("select join_date::text from public.employees where id = '2'").fetchone() == (
            "2020-12-31",
        )
