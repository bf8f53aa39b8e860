"""Releases: only changes are sent, every retained release can be read, compared and shown again, edits are found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.errors import PublishError
from foundation.events import Emit, Event, ignore
from foundation.settings import Output, Retention
from publishing import past
from publishing.publish import publish
from publishing.releases import MartDelta, Origin, Release
from publishing.rollback import rollback
from publishing.target import Destination
from tests.conftest import create_database

OUTPUTS = {"orders": Output(key=["id", "line"], indexes=["note"]), "totals": Output(key=["id"])}
Rows = Mapping[tuple[int, int], tuple[str | None, int]]


@pytest.fixture
def dsn(postgres: str) -> str:
    return create_database(postgres)


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def put(warehouse: Path, orders: Rows) -> None:
    """Orders, and their totals by id."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute(
            "create or replace table marts.orders (id integer, line smallint, note varchar, cents bigint,"
            " amount decimal(18, 2), tags varchar[])"
        )
        rows = [[*key, note, cents, cents / 100, [str(cents)]] for key, (note, cents) in orders.items()]
        if rows:
            connection.executemany("insert into marts.orders values (?, ?, ?, ?, ?, ?)", rows)
        connection.execute(
            "create or replace table marts.totals as"
            " select id, sum(cents)::bigint as cents from marts.orders group by id"
        )


def go(
    warehouse: Path,
    dsn: str,
    *,
    emit: Emit = ignore,
    retention: Retention = Retention(),  # noqa: B008 - it cannot change
    origin: Origin = Origin("run"),  # noqa: B008 - nor can this
) -> Release:
    return publish(warehouse, OUTPUTS, Destination(dsn, retention=retention), origin, emit)


def back(dsn: str, release_id: int | None = None) -> Release:
    return rollback(Destination(dsn), release_id, Origin("back"), ignore)


def ask(dsn: str, question: str, *values: Any) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.execute(question.encode(), values).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def tell(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, application_name="a person") as connection:
        for statement in statements:
            connection.execute(statement.encode())


def orders(dsn: str, relation: str = "orders") -> dict[tuple[int, int], tuple[str | None, int]]:
    return {
        (i, line): (note, cents) for i, line, note, cents in ask(dsn, f"select id, line, note, cents from {relation}")
    }


def sent(events: Sequence[Event], mart: str) -> int:
    return next(event.counts["rows_total"] for event in events if event.name == "started" and event.source == mart)


SOME: Rows = {(1, 1): ("a", 100), (1, 2): (None, 250), (2, 1): ("", 75)}


def test_only_changed_rows_are_sent(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    first = go(warehouse, dsn)
    assert first.marts["orders"] == MartDelta(3, 0, 0, 3)
    events: list[Event] = []
    put(warehouse, {(1, 1): ("a", 100), (2, 1): ("z", 75), (3, 1): ("new", 1)})
    second = go(warehouse, dsn, emit=events.append)
    assert second.marts["orders"] == MartDelta(1, 1, 1, 3)
    assert (sent(events, "orders"), sent(events, "totals")) == (2, 2)
    assert orders(dsn) == {(1, 1): ("a", 100), (2, 1): ("z", 75), (3, 1): ("new", 1)}


def test_nothing_is_sent_and_no_table_is_locked_where_nothing_changed(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    first = go(warehouse, dsn)
    events: list[Event] = []
    with psycopg.connect(dsn) as reader:
        reader.execute("lock table orders in access exclusive mode")
        again = go(warehouse, dsn, emit=events.append)
    assert (again.is_new, again.release_id) == (False, first.release_id)
    assert (sent(events, "orders"), sent(events, "totals")) == (0, 0)


def test_a_warehouse_that_missed_the_commit_compares_every_row(
    warehouse: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    put(warehouse, {**SOME, (1, 1): ("b", 1)})
    with monkeypatch.context() as patched:
        patched.setattr("publishing.memory.Memory.remember", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go(warehouse, dsn)
    put(warehouse, {(1, 1): ("b", 1)})
    events: list[Event] = []
    release = go(warehouse, dsn, emit=events.append)
    assert (release.release_id, release.marts["orders"]) == (3, MartDelta(0, 0, 2, 1))
    assert sent(events, "orders") == 1
    assert orders(dsn) == {(1, 1): ("b", 1)}


def test_another_database_gets_every_row(warehouse: Path, dsn: str, postgres: str) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    other = create_database(postgres)
    assert go(warehouse, other).marts["orders"] == MartDelta(3, 0, 0, 3)
    assert orders(other) == orders(dsn)
    put(warehouse, {(9, 9): ("x", 9)})
    assert go(warehouse, dsn).marts["orders"] == MartDelta(1, 0, 3, 1)


def test_a_release_tells_where_it_comes_from(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn, origin=Origin("run-1", "abc-dirty", {"checks": 3, "warning": 1}))
    (entry,) = past.list_releases(Destination(dsn), 5)
    assert (entry.run_id, entry.git_commit, entry.gate) == ("run-1", "abc-dirty", {"checks": 3, "warning": 1})
    assert (entry.kind, entry.is_retained, entry.marts["totals"]) == ("publish", True, MartDelta(2, 0, 0, 2))


def test_no_release_is_listed_where_nothing_was_published(dsn: str) -> None:
    assert past.list_releases(Destination(dsn), 5) == []
    with pytest.raises(PublishError, match="nothing was published into the schema public"):
        back(dsn)


def test_two_releases_are_compared_row_by_row(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    put(warehouse, {(1, 1): ("b", 100), (3, 1): ("new", 1)})
    go(warehouse, dsn)
    older, newer, counts, rows = past.diff(Destination(dsn), rows=10)
    assert (older, newer) == (1, 2)
    assert counts == {"orders": MartDelta(1, 1, 2, 2), "totals": MartDelta(1, 1, 1, 2)}
    assert [(row.mart, row.action, row.key) for row in rows if row.mart == "orders"] == [
        ("orders", "changed", {"id": 1, "line": 1}),
        ("orders", "removed", {"id": 1, "line": 2}),
        ("orders", "removed", {"id": 2, "line": 1}),
        ("orders", "added", {"id": 3, "line": 1}),
    ]
    assert rows[0].columns == {"note": ("a", "b")}
    assert past.diff(Destination(dsn), 2, 1)[2]["orders"] == MartDelta(2, 1, 1, 3)


def test_a_mart_can_be_read_as_of_any_release(warehouse: Path, dsn: str) -> None:
    versions: list[Rows] = [SOME, {(1, 1): ("b", 1)}, {}, {**SOME, (5, 5): ("c", 5)}]
    for version in versions:
        put(warehouse, version)
        go(warehouse, dsn)
    assert [orders(dsn, f"public_history.orders_as_of({number})") for number in (1, 2, 3, 4)] == versions
    with pytest.raises(psycopg.errors.RaiseException, match="release 5 is not retained"):
        ask(dsn, "select * from public_history.orders_as_of(5)")


def test_a_rollback_shows_what_was_and_the_next_publish_goes_forward(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    made = dict(ask(dsn, "select id || '/' || line, created_at from orders"))
    bad: Rows = {(1, 1): ("bad", 100), (7, 7): ("bad", 7)}
    put(warehouse, bad)
    go(warehouse, dsn)
    release = back(dsn)
    assert (release.release_id, release.is_new, release.marts["orders"]) == (3, True, MartDelta(2, 1, 1, 3))
    assert orders(dsn) == SOME
    assert dict(ask(dsn, "select id || '/' || line, created_at from orders")) == made
    assert ask(dsn, "select cents from totals order by id") == [350, 75]
    assert not back(dsn, 1).is_new
    assert go(warehouse, dsn).release_id == 4
    assert orders(dsn) == bad
    assert [entry.kind for entry in past.list_releases(Destination(dsn), 9)] == [
        "publish",
        "rollback",
        "publish",
        "publish",
    ]
    assert orders(dsn, "public_history.orders_as_of(3)") == SOME


def test_rollbacks_go_back_one_publish_at_a_time(warehouse: Path, dsn: str) -> None:
    versions: list[Rows] = [{(1, 1): (str(number), number)} for number in range(3)]
    for version in versions:
        put(warehouse, version)
        go(warehouse, dsn)
    for version in reversed(versions[:-1]):
        back(dsn)
        assert orders(dsn) == version
    with pytest.raises(PublishError, match="there is no release before 1 that could be read"):
        back(dsn)


def test_a_release_beyond_the_retention_is_gone_with_its_rows(warehouse: Path, dsn: str) -> None:
    for number in range(5):
        put(warehouse, {(1, 1): (str(number), number)})
        go(warehouse, dsn, retention=Retention(count=2))
    assert ask(dsn, "select note from public_history.orders") == ["3"]
    found = past.list_releases(Destination(dsn), 9)
    assert [entry.is_retained for entry in found] == [True, True, False, False, False]
    with pytest.raises(PublishError, match=r"no release 3 that could be read .*these can be read: 5, 4"):
        back(dsn, 3)
    back(dsn, 4)
    assert orders(dsn) == {(1, 1): ("3", 3)}


def test_a_release_that_is_too_old_goes_but_never_the_one_that_is_shown(warehouse: Path, dsn: str) -> None:
    for number in range(2):
        put(warehouse, {(1, 1): (str(number), number)})
        go(warehouse, dsn, retention=Retention(days=1e-9))
    assert [entry.is_retained for entry in past.list_releases(Destination(dsn), 9)] == [True, False]
    assert ask(dsn, "select count(*) from public_history.orders") == [0]


EDITS = [
    "update orders set note = 'edited' where id = 1",
    "delete from orders where id = 2",
    "insert into orders (id, line, note) values (8, 8, 'foreign')",
    "truncate orders",
    "alter table orders disable trigger penstock_watch; update orders set cents = 0",
    "drop trigger penstock_watch on orders; delete from orders",
    "set session_replication_role = replica; drop trigger penstock_watch on orders; update orders set cents = 3",
]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("is_changed", [False, True], ids=["same candidate", "another candidate"])
def test_a_table_that_was_changed_by_hand_is_told_and_put_right(
    warehouse: Path, dsn: str, edit: str, is_changed: bool
) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    before = ask(dsn, "select id, line, note, cents, updated_at from orders order by 1, 2")
    tell(dsn, *edit.split("; "))
    events: list[Event] = []
    wanted: Rows = {**SOME, (4, 4): ("four", 4)} if is_changed else SOME
    put(warehouse, wanted)
    release = go(warehouse, dsn, emit=events.append)
    assert (release.is_new, release.release_id) == (is_changed, 2 if is_changed else 1)
    told = [event.message for event in events if event.name == "noticed"]
    assert len(told) == 1
    assert told[0].startswith("public.orders was changed by hand")
    if "trigger" not in edit:
        assert f"({edit.split()[0]} by postgres, a person, " in told[0]
    assert orders(dsn) == wanted
    kept = ask(dsn, "select id, line, note, cents, updated_at from orders where id <> 4 order by 1, 2")
    assert kept == before
    assert orders(dsn, "public_history.orders_as_of(1)") == SOME
    again: list[Event] = []
    assert not go(warehouse, dsn, emit=again.append).is_new
    assert [event for event in again if event.name == "noticed"] == []


def test_a_key_that_was_changed_by_hand_is_put_right_where_another_column_must_be_unique(
    warehouse: Path, dsn: str
) -> None:
    outputs = {"orders": Output(key=["id", "line"], unique=["note"]), "totals": Output(key=["id"])}
    put(warehouse, SOME)
    publish(warehouse, outputs, Destination(dsn), Origin("run"), ignore)
    tell(dsn, "update orders set id = 9 where id = 1")
    publish(warehouse, outputs, Destination(dsn), Origin("run"), ignore)
    assert orders(dsn) == SOME


def test_a_mart_that_is_no_output_any_more_is_told_and_stays(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    put(warehouse, {})
    events: list[Event] = []
    publish(warehouse, {"totals": OUTPUTS["totals"]}, Destination(dsn), Origin("run"), events.append)
    assert [event.message for event in events if event.name == "noticed"] == [
        "public.orders is not among the outputs any more; it stays as it is"
    ]
    assert orders(dsn) == SOME
    assert ask(dsn, "select count(*) from totals") == [0]
    tell(dsn, "update orders set note = 'edited'")  # nobody's concern, until it is an output again
    put(warehouse, SOME)
    go(warehouse, dsn)
    assert orders(dsn) == SOME


def test_a_statement_that_changed_nothing_is_no_edit(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    tell(dsn, "update orders set note = note")
    events: list[Event] = []
    go(warehouse, dsn, emit=events.append)
    assert [event for event in events if event.name == "noticed"] == []
    assert ask(dsn, "select seen_by_run is not null from penstock.edits") == [True]


def test_a_rollback_over_rows_changed_by_hand_is_refused(warehouse: Path, dsn: str) -> None:
    put(warehouse, SOME)
    go(warehouse, dsn)
    put(warehouse, {**SOME, (1, 1): ("b", 1)})
    go(warehouse, dsn)
    tell(dsn, "update orders set cents = 76 where id = 2")
    with pytest.raises(PublishError, match=r"release 1 had .* changed by hand: publish puts it right"):
        back(dsn)
    assert orders(dsn)[1, 1] == ("b", 1)
    go(warehouse, dsn)
    back(dsn)
    assert orders(dsn) == SOME


_ROWS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 2)), st.tuples(st.sampled_from([None, "", "a", "é"]), st.integers(0, 3))
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(_ROWS, st.integers(1, 8)), min_size=2, max_size=8))
def test_every_release_stays_as_it_was_whatever_follows(
    warehouse: Path, postgres: str, steps: list[dict[tuple[int, int], tuple[str | None, int]] | int]
) -> None:
    dsn = create_database(postgres)
    shown: list[Any] = []
    for step in steps:
        if isinstance(step, dict):
            put(warehouse, step)
            release = go(warehouse, dsn)
            current: Any = step
        elif step <= len(shown):
            release = back(dsn, step)
            current = shown[step - 1]
        else:
            continue
        if release.is_new:
            shown.append(current)
        assert len(shown) == release.release_id
        assert orders(dsn) == current
    assert [orders(dsn, f"public_history.orders_as_of({number + 1})") for number in range(len(shown))] == shown
