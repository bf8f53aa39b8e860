"""The ledger of dead letters on a warehouse that is written by hand: who is a letter, and in which state."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from operations import named_rows
from operations.ledger import Ledger
from operations.letters.ledger import update, update_ledger

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = {"people": ["id"]}


class Desk:
    """A warehouse with one load of two records of a file, of which the second is rejected."""

    def __init__(self, path: Path) -> None:
        self.path = path
        Ledger(path, "run-1").start("run", START, date(2026, 1, 1))
        self.execute("""
            create schema raw;
            create schema marts;
            create table raw.loads as
                select 'l1' as load_id, 'run-1' as run_id, 'hr__people' as source, 'csv' as kind, 'a.csv' as location,
                    'hash' as content_hash, 0 as start_bytes, 2 as records_read, 0 as records_skipped,
                    timestamptz '2026-01-01' as loaded_at, 'p1' as _dlt_load_id;
            create table raw._dlt_loads as select 'p1' as load_id, 0 as status;
            create table raw.hr__people as
                select unnest(['1', '2']) as id, unnest(['Ann', 'B']) as name, 'a.csv' as _location,
                    'hash' as _content_hash, unnest([2, 3]) as _line, 'l1' as _load_id,
                    timestamptz '2026-01-01' as _loaded_at;
            create table marts.outcomes_people as
                select 'hr__people' as source, 'hash' as content_hash, unnest([2, 3]) as line,
                    unnest(['1', '2']) as record_key, unnest(['accepted', 'rejected']) as outcome,
                    timestamptz '2026-01-01' as loaded_at;
            create view marts.rejected_people as
                select source, 'a.csv' as location, content_hash, line, 'l1' as load_id,
                    ['name_length'] as failed_rules, loaded_at
                from marts.outcomes_people where outcome = 'rejected';
        """)

    def execute(self, statement: str) -> None:
        """Change the warehouse."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(statement)

    def letters(self, columns: str = "stage, source, line, reasons, state") -> list[tuple[Any, ...]]:
        """The letters as the ledger has them, once it is brought up to date."""
        update_ledger(self.path, KEYS)
        with duckdb.connect(str(self.path)) as connection:
            return connection.execute(f"select {columns} from ops.dead_letters order by all").fetchall()

    def judge(self, run_id: str, at: str, samples: list[dict[str, Any]]) -> None:
        """Enter a judgement of a gate, which fails where it names rows."""
        self.execute(f"""
            insert into ops.gate_results (run_id, gate, suite, expectation, column_name, severity, is_success,
                observed_value, allowed, samples, checked_at)
            values ('{run_id}', 'marts', 'people', 'expect_age', 'age', 'warning', {not samples}, '1%', 'none',
                '{json.dumps(samples)}', '{at}')
        """)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "warehouse.duckdb")


def test_a_rejected_record_is_a_letter_with_its_record_and_its_key(desk: Desk) -> None:
    (letter,) = desk.letters("stage, source, location, line, reasons, state, attempts, record_key, record")
    assert letter[:8] == ("rule", "hr__people", "a.csv", 3, "name_length", "open", 1, "2")
    assert json.loads(letter[8]) == {"id": "2", "name": "B"}
    before = desk.letters("*")
    assert desk.letters("*") == before


def test_a_record_that_the_models_pass_now_resolves_its_letter(desk: Desk) -> None:
    (before,) = desk.letters("letter_id")
    desk.execute("update marts.outcomes_people set outcome = 'accepted'")
    assert desk.letters("letter_id, state, resolution") == [(*before, "resolved", "judged anew: accepted")]
    desk.execute("update marts.outcomes_people set outcome = 'rejected' where line = 3")
    assert desk.letters("letter_id, state, resolution") == [(*before, "open", None)]


def test_a_newer_record_of_the_same_key_resolves_its_letter_and_an_older_or_rejected_one_does_not(desk: Desk) -> None:
    desk.letters()
    for outcome, day, state in (("rejected", 5, "open"), ("accepted", 1, "open"), ("accepted", 5, "resolved")):
        desk.execute(
            "insert into marts.outcomes_people values "
            f"('hr__people', 'other', {day * 10 + len(outcome)}, '2', '{outcome}', timestamptz '2026-01-0{day}')"
        )
        found = [row for row in desk.letters("line, state") if row[0] == 3]
        assert found == [(3, state)], (outcome, day)


def test_models_that_are_gone_resolve_nothing(desk: Desk) -> None:
    before = desk.letters()
    desk.execute("drop view marts.rejected_people; drop table marts.outcomes_people")
    assert desk.letters() == before


def test_a_load_that_is_not_complete_makes_no_letter(desk: Desk) -> None:
    desk.execute(
        """
        create table raw.dead_letters as
            select 'd' || load_id as dead_letter_id, load_id, 'run-1' as run_id, 'hr__people' as source,
                'parse' as stage, 'a.csv' as location, 'hash' as content_hash, 4 as line, 40 as byte_offset,
                5 as byte_length, null::bigint as page, 'ragged_line' as reason, 'm' as message, 'x,y' as record,
                null::blob as record_bytes, 1 as attempts, timestamptz '2026-01-01' as occurred_at
            from unnest(['l1', 'l1', 'l9']) as loads (load_id)
        """
    )
    letters = desk.letters("letter_id, attempts, record, state")
    assert [letter for letter in letters if letter[0].startswith("d")] == [("dl1", 1, "x,y", "open")]


def test_rows_that_a_gate_named_are_letters_until_it_names_them_no_more(desk: Desk) -> None:
    named: list[dict[str, Any]] = [
        {"id": "1", "age": 7},
        {"source": "hr__people", "location": "a.csv", "line": 3},
        {"department": "HR"},
    ]
    desk.judge("run-1", "2026-01-01 10:00:00+00", named)
    letters = [row for row in desk.letters("stage, source, line, state, attempts, record") if row[0] == "gate"]
    (by_place, by_key) = letters
    assert by_place[:5] == ("gate", "hr__people", 3, "open", 1)
    assert json.loads(by_place[5]) == {"id": "2", "name": "B"}
    assert (by_key[:5], json.loads(by_key[5])) == (("gate", "people", None, "open", 1), {"id": "1", "age": 7})
    desk.judge("run-2", "2026-01-02 10:00:00+00", named[:1])
    states = {
        (row[1], row[2]): row[3:] for row in desk.letters("stage, source, line, state, attempts") if row[0] == "gate"
    }
    assert states == {("hr__people", 3): ("resolved", 1), ("people", None): ("open", 2)}
    desk.judge("run-3", "2026-01-03 10:00:00+00", [])
    assert {row[1] for row in desk.letters("stage, state") if row[0] == "gate"} == {"resolved"}


def test_a_discarded_letter_stays_so_whatever_the_data_says(desk: Desk) -> None:
    ((letter_id,),) = desk.letters("letter_id")
    desk.execute(f"insert into ops.letter_events values ('{letter_id}', 'discarded', null, now(), 'a test')")
    assert desk.letters("state, resolution") == [("discarded", "a test")]
    desk.execute("update marts.outcomes_people set outcome = 'accepted'")
    assert desk.letters("state, resolution") == [("discarded", "a test")]


def test_a_warehouse_without_anything_has_no_letters(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    Ledger(path, "run-1").start("run", START, date(2026, 1, 1))
    update_ledger(path, {})
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("select * from ops.dead_letters").fetchall() == []
    update_ledger(tmp_path / "nowhere.duckdb", {})
    assert not (tmp_path / "nowhere.duckdb").exists()


def judged(rows: str | None, count: int, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A check that failed, as a gate gives it."""
    return {
        "gate": "marts",
        "suite": "people",
        "expectation": "expect_age",
        "column_name": "age",
        "severity": "warning",
        "is_success": count == 0,
        "observed_value": "1%",
        "allowed": "none",
        "count_elements": 100,
        "count_unexpected": count,
        "samples": samples,
        "notes": "",
        "rows_query": rows,
    }


def of_gates(desk: Desk, columns: str) -> list[tuple[Any, ...]]:
    """The letters of gates."""
    return [row[1:] for row in desk.letters(f"stage, {columns}") if row[0] == "gate"]


def test_every_row_that_a_check_can_name_is_a_letter(desk: Desk) -> None:
    desk.execute("create table marts.people as select i::varchar as id, i as age from range(100) as t (i)")
    samples = [{"id": str(number), "age": number} for number in range(5)]
    young = "select id, age from marts.people where age < "
    Ledger(desk.path, "run-1").add_checks([judged(f"{young} 30", 30, samples)], START)
    letters = of_gates(desk, "state, attempts, message, record")
    assert len(letters) == 30
    assert {letter[:3] for letter in letters} == {("open", 1, "suite people: is 1%, allowed is none")}
    assert sorted(json.loads(letter[3])["age"] for letter in letters) == list(range(30))
    for attempt in (1, 2):  # a run that judges again counts once
        Ledger(desk.path, "run-2", attempt).add_checks([judged(f"{young} 27", 27, samples)], START + timedelta(attempt))
    found = of_gates(desk, "state, attempts, run_id, last_run_id")
    assert found == [("open", 2, "run-1", "run-2")] * 27 + [("resolved", 1, "run-1", "run-1")] * 3
    Ledger(desk.path, "run-3").add_checks([judged(None, 0, [])], START + timedelta(3))
    assert {state for (state,) in of_gates(desk, "state")} == {"resolved"}


def test_more_rows_than_are_kept_are_told_in_the_letter(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_rows, "MOST_ROWS", 10)
    desk.execute("create table marts.people as select i::varchar as id, i as age from range(100) as t (i)")
    query = "select id, age from marts.people where age < 30"
    Ledger(desk.path, "run-1").add_checks([judged(query, 30, [])], START)
    message = "suite people: is 1%, allowed is none; 10 of 30 rows are named, the others are left out"
    assert of_gates(desk, "message") == [(message,)] * 10


@pytest.mark.parametrize("query", [None, "select id, age from marts.people", "select nonsense"])
def test_a_check_that_cannot_name_its_rows_says_so_in_the_letters_of_those_it_shows(
    desk: Desk, query: str | None
) -> None:
    desk.execute("create table marts.people as select i::varchar as id, i as age from range(100) as t (i)")
    samples = [{"id": str(number), "age": number} for number in range(5)]
    Ledger(desk.path, "run-1").add_checks([judged(query, 30, samples)], START)
    message = "suite people: is 1%, allowed is none; 5 of 30 rows are named, the check can name no more"
    assert of_gates(desk, "message") == [(message,)] * 5


PARSED = """
    create table if not exists raw.dead_letters (dead_letter_id varchar, load_id varchar, run_id varchar,
        source varchar, stage varchar, location varchar, content_hash varchar, line bigint, byte_offset bigint,
        byte_length bigint, page bigint, reason varchar, message varchar, record varchar, record_bytes blob,
        attempts bigint, occurred_at timestamptz);
    insert into raw.dead_letters
        select '{load}-' || line, '{load}', 'run-1', 'hr__people', 'parse', '{load}.csv', 'hash-{load}', line,
            line * 10, 5, null, 'ragged_line', 'm', 'x,y', null, 1, timestamptz '2026-01-01'
        from unnest([4, 5, 6]) as lines (line);
"""
LOAD = "insert into raw.loads select * replace ('{load}' as load_id, '{load}.csv' as location) from raw.loads limit 1;"


def test_only_letters_that_may_have_changed_are_looked_at(desk: Desk) -> None:
    def looked_at() -> list[str]:
        with duckdb.connect(str(desk.path)) as connection:
            update(connection, KEYS)
            found = "select letter_id from letters_before_states where stage = 'parse' order by 1"
            return [letter for (letter,) in connection.execute(found).fetchall()]

    desk.execute(PARSED.format(load="l1"))
    assert looked_at() == ["l1-4", "l1-5", "l1-6"]
    assert looked_at() == []
    desk.execute("insert into ops.letter_events values ('l1-5', 'discarded', null, now(), 'a test')")
    assert looked_at() == ["l1-5"]
    desk.execute(LOAD.format(load="l2") + PARSED.format(load="l2"))
    assert looked_at() == ["l1-5", "l2-4", "l2-5", "l2-6"]
    desk.execute("insert into raw.loads select * replace ('l3' as load_id, now() as loaded_at) from raw.loads limit 1")
    desk.execute("update raw.loads set location = 'l1.csv' where load_id = 'l3'")
    assert looked_at() == ["l1-4", "l1-5", "l1-6"]
    states = [row[1] for row in desk.letters("letter_id, state") if row[0].startswith("l")]
    assert states == ["resolved", "discarded", "resolved", "open", "open", "open"]
    assert looked_at() == ["l1-5"]


def test_no_statement_compares_every_letter_with_every_other(desk: Desk) -> None:
    desk.execute(PARSED.format(load="l1"))
    desk.judge("run-1", "2026-01-01 10:00:00+00", [{"id": "1", "age": 7}])
    desk.letters()
    with duckdb.connect(str(desk.path)) as connection:
        plans = Plans(connection)
        update(plans, KEYS)  # type: ignore[arg-type]
    assert len(plans.found) > 5
    for plan in plans.found:
        assert not {"NESTED_LOOP_JOIN", "BLOCKWISE_NL_JOIN", "CROSS_PRODUCT"} & set(re.findall(r"\w+", plan)), plan


class Plans:
    """A connection that keeps the plan of each statement that makes a table, before it is executed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.found: list[str] = []

    def execute(self, statement: str, values: Any = None) -> duckdb.DuckDBPyConnection:
        """Execute it."""
        _, is_table, query = statement.partition(" temp table ")
        if is_table:
            (_, plan), *_ = self._connection.execute(f"explain {query.split(' as', 1)[1]}", values).fetchall()
            self.found.append(plan)
        return self._connection.execute(statement, values)
