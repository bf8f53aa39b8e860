"""The books on a warehouse whose raw and outcomes are written by hand."""

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from foundation.errors import BooksError
from operations.accounts import chain
from operations.accounts.books import Closing, SourceBook, checks, close_books, close_mart_books
from operations.accounts.books_report import read_books
from operations.accounts.rebuild import see_loads_then
from operations.accounts.tallies import MartKey
from operations.failed_records import count_failed
from operations.ledger import Ledger

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """One complete load of two records; the crash that hit it wrote its rows and its load record twice."""
    path = tmp_path / "warehouse.duckdb"
    Ledger(path, "run-1").start("run", START, date(2026, 1, 1))
    with duckdb.connect(str(path)) as connection:
        connection.execute("""
            create schema raw;
            create schema marts;
            create table raw.loads as
                select 'l1' as load_id, 'run-1' as run_id, 'hr__people' as source, 2 as records_read,
                    0 as records_skipped, 'p1' as _dlt_load_id, 'hash' as content_hash, 0 as start_bytes,
                    9 as position_bytes, timestamptz '2026-01-01' as loaded_at, '' as partition
                from range(2);
            create table raw._dlt_loads as select 'p1' as load_id, 0 as status from range(2);
            create table raw.hr__people as
                select 'l1' as _load_id, 'hash' as _content_hash, line as _line from range(2) as rows (line), range(2);
            create table marts.outcomes_people as
                select 'l1' as load_id, 'hr__people' as source, 'accepted' as outcome, 'hash' as content_hash,
                    line, 'id-' || line as record_key
                from range(2) as rows (line);
            create table marts.people as select record_key as id from marts.outcomes_people;
        """)
    return path


def test_a_load_that_a_crash_wrote_twice_is_one_load(warehouse: Path) -> None:
    (book,) = close_books(warehouse, "run-1", ["hr__people"]).books
    assert book == SourceBook("hr__people", records_read=2, records_loaded=2, count_accepted=2)
    assert book.is_balanced


def test_a_load_is_booked_once(warehouse: Path) -> None:
    close_books(warehouse, "run-1", ["hr__people"])
    assert close_books(warehouse, "run-2", ["hr__people"]).books == [SourceBook("hr__people")]


def test_a_load_that_does_not_balance_stays_open(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("delete from marts.outcomes_people")
    for run_id in ("run-1", "run-2"):
        (book,) = close_books(warehouse, run_id, ["hr__people"]).books
        assert book.gap == "hr__people: 2 loaded, but no outcomes model counts them"


def test_a_content_that_came_twice_before_a_book_was_closed_is_skipped_once(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("""
            insert into raw.loads
                select distinct
                    'l2', 'run-2', source, records_read, 0, 'p1', content_hash, 0, 9, timestamptz '2026-01-02',
                    ''
                from raw.loads;
            insert into raw.hr__people select distinct 'l2', 'hash', _line from raw.hr__people;
            -- the models count the latest
            update marts.outcomes_people set load_id = 'l2';
        """)
    (book,) = close_books(warehouse, "run-2", ["hr__people"]).books
    assert book == SourceBook("hr__people", records_read=4, records_loaded=2, records_skipped=2, count_accepted=2)


def test_a_content_that_was_loaded_and_then_skipped_counts_as_loaded(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("""
            insert into raw.loads
                select distinct
                    'l2', 'run-2', source, records_read, records_read, 'p1', content_hash, 0, 9,
                    timestamptz '2026-01-02', ''
                from raw.loads;
        """)
    (book,) = close_books(warehouse, "run-2", ["hr__people"]).books
    assert book == SourceBook("hr__people", records_read=4, records_loaded=2, records_skipped=2, count_accepted=2)


def test_a_source_that_left_the_settings_without_a_model_holds_nothing(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("delete from marts.outcomes_people")
    (book,) = close_books(warehouse, "run-1", []).books
    assert (book.is_abandoned, book.is_balanced, book.records_loaded) == (True, True, 2)
    assert count_failed(warehouse, "run-1") == {}
    # Its loads stay open: declared again, it is missed again.
    (book,) = close_books(warehouse, "run-2", ["hr__people"]).books
    assert book.gap == "hr__people: 2 loaded, but no outcomes model counts them"


def test_a_source_that_left_the_settings_but_has_a_model_is_in_the_books(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("update marts.outcomes_people set load_id = 'an earlier one'")
    (book,) = close_books(warehouse, "run-1", []).books
    assert (book.is_abandoned, book.is_balanced) == (False, False)


def tamper(warehouse: Path, statements: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(statements)


def close(warehouse: Path, run_id: str = "run-1") -> Closing:
    return close_books(warehouse, run_id, ["hr__people"], {"people": MartKey("id")})


def test_accepted_records_are_in_the_mart(warehouse: Path) -> None:
    closing = close(warehouse)
    assert closing.gaps == []
    book = next(mart for mart in closing.candidates if mart.mart == "people")
    assert (book.count_before, book.count_accepted, book.count_removed, book.count_candidates) == (0, 2, 0, 2)


@pytest.mark.parametrize(
    ("statements", "gap"),
    [
        (
            "delete from raw.hr__people where _line = 1",
            "hr__people: 2 read, but 1 loaded, dead-lettered or skipped",
        ),
        (
            "insert into raw.hr__people values ('l1', 'hash', 7)",
            "hr__people: 2 read, but 3 loaded, dead-lettered or skipped",
        ),
        (
            "update raw.hr__people set _line = 7 where _line = 1",
            "hr__people: 2 loaded and as many have an outcome, but other records do",
        ),
        (
            "delete from marts.outcomes_people where line = 1",
            "hr__people: 2 loaded, but 1 have an outcome",
        ),
        (
            "update marts.outcomes_people set content_hash = 'other' where line = 1",
            "hr__people: 2 loaded and as many have an outcome, but other records do",
        ),
        (
            "insert into marts.outcomes_people select * from marts.outcomes_people",
            "hr__people: 2 loaded, but 4 have an outcome",
        ),
        (
            "delete from marts.people where id = 'id-1'",
            "people: 0 before + 2 accepted - 0 removed = 2, but the mart has 1 rows",
        ),
        (
            "update marts.people set id = 'id-7' where id = 'id-1'",
            "people: 2 records are accepted and as many are in the mart, but other ones",
        ),
        (
            "insert into marts.people values ('id-7')",
            "people: 0 before + 2 accepted - 0 removed = 2, but the mart has 3 rows",
        ),
    ],
)
def test_what_was_changed_by_hand_does_not_balance_and_is_a_critical_check(
    warehouse: Path, statements: str, gap: str
) -> None:
    tamper(warehouse, statements)
    closing = close(warehouse)
    assert gap in closing.gaps
    failed = [check for check in checks([*closing.books, *closing.candidates]) if not check["is_success"]]
    assert {check["notes"] for check in failed} >= set(closing.gaps)
    assert {(check["gate"], check["severity"]) for check in failed} == {("books", "critical")}
    assert close(warehouse, "run-2").gaps == closing.gaps, "an imbalance does not heal by running again"


def test_a_record_that_a_later_one_supersedes_is_removed(warehouse: Path) -> None:
    close(warehouse)
    tamper(
        warehouse,
        """
        insert into raw.loads
            select distinct 'l2', 'run-2', source, 2, 0, 'p1', 'hash-2', 0, 9, timestamptz '2026-01-02', ''
            from raw.loads;
        insert into raw.hr__people values ('l2', 'hash-2', 0), ('l2', 'hash-2', 1);
        update marts.outcomes_people set outcome = 'duplicate' where line = 0;
        insert into marts.outcomes_people
            values ('l2', 'hr__people', 'accepted', 'hash-2', 0, 'id-0'),
                ('l2', 'hr__people', 'accepted', 'hash-2', 1, 'id-2');
        insert into marts.people values ('id-2');
        """,
    )
    closing = close(warehouse, "run-2")
    assert closing.gaps == []
    book = next(mart for mart in closing.candidates if mart.mart == "people")
    assert (book.count_before, book.count_accepted, book.count_removed, book.count_candidates) == (2, 2, 1, 3)


SEVERAL = """
    alter table marts.outcomes_people add column mart varchar;
    update marts.outcomes_people set mart = 'persons' where line = 0;
    create table marts.persons as select 'id-0' as id union all select '(unknown)';
"""


def test_an_outcomes_model_can_lead_to_several_marts_or_none_and_an_unknown_member_is_counted_apart(
    warehouse: Path,
) -> None:
    tamper(warehouse, SEVERAL)
    keys = {"people": MartKey("id"), "persons": MartKey("id", "(unknown)")}
    closing = close_books(warehouse, "run-1", ["hr__people"], keys)
    people, persons = (book for book in closing.candidates if not book.mart.startswith("outcomes_"))
    assert people.is_derived, "record 1 leads to no mart, and the model's own name to none either"
    assert closing.gaps == []
    assert (persons.count_accepted, persons.count_unknown, persons.count_candidates) == (1, 1, 2)
    persons = close_books(warehouse, "run-2", ["hr__people"], keys).candidates[-1]
    assert (persons.count_before, persons.count_removed, persons.gap) == (1, 0, "")
    tamper(warehouse, "insert into marts.persons values ('id-1')")
    assert close_books(warehouse, "run-3", ["hr__people"], keys).gaps == [
        "persons: 1 before + 0 accepted - 0 removed = 1, but the mart has 2 rows"
    ]


def test_an_outcomes_model_that_leads_to_a_mart_that_is_not_there_is_told(warehouse: Path) -> None:
    tamper(warehouse, SEVERAL + "drop table marts.persons")
    with pytest.raises(BooksError, match="outcomes_people leads to the mart persons, and there is none of that name"):
        close(warehouse)


def test_every_partition_has_books_of_its_own(warehouse: Path) -> None:
    tamper(
        warehouse,
        """
        update raw.loads set partition = 'a';
        insert into raw.loads
            select distinct 'l2', 'run-1', source, 1, 0, 'p1', 'hash-2', 0, 9, timestamptz '2026-01-01', 'b'
            from raw.loads;
        insert into raw.hr__people values ('l2', 'hash-2', 0);
        insert into marts.outcomes_people values ('l2', 'hr__people', 'rejected', 'hash-2', 0, 'id-9');
        """,
    )
    closing = close(warehouse)
    assert closing.books == [
        SourceBook("hr__people", records_read=2, records_loaded=2, count_accepted=2, partition="a"),
        SourceBook("hr__people", records_read=1, records_loaded=1, count_rejected=1, partition="b"),
    ]
    assert closing.sources == [
        SourceBook("hr__people", records_read=3, records_loaded=3, count_accepted=2, count_rejected=1)
    ]


def test_partitions_that_only_balance_together_do_not_balance(warehouse: Path) -> None:
    tamper(
        warehouse,
        """
        update raw.loads set partition = 'a', records_read = 3;
        insert into raw.loads
            select distinct 'l2', 'run-1', source, 0, 0, 'p1', 'hash-2', 0, 9, timestamptz '2026-01-01', 'b'
            from raw.loads;
        insert into raw.hr__people values ('l2', 'hash-2', 0);
        insert into marts.outcomes_people values ('l2', 'hr__people', 'rejected', 'hash-2', 0, 'id-9');
        """,
    )
    closing = close(warehouse)
    assert closing.gaps == [
        "hr__people, partition a: 3 read, but 2 loaded, dead-lettered or skipped",
        "hr__people, partition b: 0 read, but 1 loaded, dead-lettered or skipped",
    ]
    assert not closing.sources[0].is_balanced


def test_an_outcomes_model_that_does_not_say_which_record_is_told(warehouse: Path) -> None:
    tamper(warehouse, "alter table marts.outcomes_people drop column line")
    with pytest.raises(BooksError, match="outcomes_people has no column line"):
        close(warehouse)


def test_a_mart_of_which_less_is_published_does_not_balance(warehouse: Path) -> None:
    (book,), _ = close_mart_books(warehouse, "run-1", {"people": 2}, 1, {"people": {"rows": 1}})
    assert book.gap == "people: 2 candidates, but 1 published"


def test_books_that_a_run_closes_again_take_the_place_of_those_before(warehouse: Path) -> None:
    tamper(warehouse, "delete from marts.people")
    assert close(warehouse).gaps
    tamper(warehouse, "update marts.outcomes_people set outcome = 'rejected'")
    assert close(warehouse).gaps == []
    assert count_failed(warehouse, "run-1") == {"hr__people": (2, 2)}
    with duckdb.connect(str(warehouse)) as connection:
        verdict = chain.verify(connection)
    assert (verdict.flaw, verdict.newest.entry_number) == ("", 8)


def test_the_records_of_a_run_whose_mart_does_not_balance_count_once(warehouse: Path) -> None:
    tamper(warehouse, "update marts.outcomes_people set outcome = 'rejected' where line = 1")
    assert close(warehouse, "run-1").gaps, "the mart still has it"
    assert count_failed(warehouse, "run-2") == {}
    tamper(warehouse, "delete from marts.people where id = 'id-1'")
    Ledger(warehouse, "run-2").start("run", datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2))
    assert close(warehouse, "run-2").gaps == []
    assert count_failed(warehouse, "run-2") == {"hr__people": (1, 2)}


def add_load(warehouse: Path, run_id: str, number: int) -> None:
    """One more load of one record, which is accepted."""
    tamper(
        warehouse,
        f"""
        insert into raw.loads
            select distinct 'l{number}', '{run_id}', source, 1, 0, 'p1', 'hash-{number}', 0, 9,
                timestamptz '2026-01-0{number}', ''
            from raw.loads where load_id = 'l1';
        insert into raw.hr__people values ('l{number}', 'hash-{number}', 0);
        insert into marts.outcomes_people
            values ('l{number}', 'hr__people', 'accepted', 'hash-{number}', 0, 'new-{number}');
        insert into marts.people values ('new-{number}');
        """,
    )


def test_the_loads_of_a_run_are_known_after_another_that_closed_its_books_twice_around_it(warehouse: Path) -> None:
    assert close(warehouse, "run-1").gaps == []
    add_load(warehouse, "run-2", 2)
    assert close(warehouse, "run-2").gaps == []
    add_load(warehouse, "run-1", 3)
    assert close(warehouse, "run-1").gaps == []
    assert loads_then(warehouse, "run-2") == ["l1", "l2"]
    assert loads_then(warehouse, "run-1") == ["l1", "l2", "l3"]


def loads_then(warehouse: Path, run_id: str) -> list[str]:
    """The loads that the marts of a run are built from again."""
    closing = read_books(warehouse, run_id)["closing"]
    with duckdb.connect(str(warehouse)) as connection:
        see_loads_then(connection, warehouse, closing)
        return [load for (load,) in connection.execute("select load_id from loads_then order by 1").fetchall()]


def test_loads_that_an_older_version_booked_are_known_by_the_closings_of_their_runs(warehouse: Path) -> None:
    close(warehouse, "run-1")
    add_load(warehouse, "run-2", 2)
    close(warehouse, "run-2")
    tamper(warehouse, "alter table ops.booked_loads drop column entry_number")
    Ledger(warehouse, "run-3").start("run", datetime(2026, 1, 3, tzinfo=UTC), date(2026, 1, 3))
    add_load(warehouse, "run-3", 3)
    close(warehouse, "run-3")
    for number in (1, 2, 3):
        assert loads_then(warehouse, f"run-{number}") == ["l1", "l2", "l3"][:number]


def spoil_two(warehouse: Path) -> None:
    """A letter of parsing, and a rejected record, of one load that is booked."""
    tamper(
        warehouse,
        """
        alter table raw.loads add column kind varchar default 'csv';
        alter table raw.loads add column records_loaded bigint default 2;
        update raw.loads set records_read = 3;
        create table raw.dead_letters as
            select 'd1' as dead_letter_id, 'l1' as load_id, 'run-1' as run_id, 'hr__people' as source,
                'a.csv' as location, 7 as line, 'x' as record;
        update marts.outcomes_people set outcome = 'rejected' where line = 1;
        delete from marts.people where id = 'id-1';
        """,
    )
    assert close(warehouse).gaps == []


def test_what_a_replay_makes_of_dead_letters_counts_towards_no_threshold(warehouse: Path) -> None:
    spoil_two(warehouse)
    assert count_failed(warehouse, "run-1") == {"hr__people": (2, 3)}
    Ledger(warehouse, "run-2").start("replay", datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2))
    tamper(
        warehouse,
        """
        insert into raw.loads by name
            select distinct * replace ('l2' as load_id, 'run-2' as run_id, 'd1-x' as content_hash, 'replay' as kind,
                timestamptz '2026-01-02' as loaded_at, 2 as records_read, 'replay' as partition)
            from raw.loads;
        insert into raw.dead_letters
            select * replace ('d2' as dead_letter_id, 'l2' as load_id, 'run-2' as run_id) from raw.dead_letters;
        insert into raw.hr__people values ('l2', 'd1-x', 1);
        insert into marts.outcomes_people values ('l2', 'hr__people', 'rejected', 'd1-x', 1, 'id-1');
        """,
    )
    assert close(warehouse, "run-2").gaps == []
    assert count_failed(warehouse, "run-2") == {"hr__people": (2, 3)}


@pytest.mark.parametrize("state", ["resolved", "discarded"])
def test_letters_that_are_settled_count_towards_no_threshold(warehouse: Path, state: str) -> None:
    spoil_two(warehouse)
    tamper(
        warehouse,
        """
        create table ops.dead_letters as
            select * from (values ('d1', 'parse', 'hr__people', 'hash', 7, 'open'),
                ('r1', 'rule', 'hr__people', 'hash', 1, 'open')) as letters
                (letter_id, stage, source, content_hash, line, state)
        """,
    )
    assert count_failed(warehouse, "run-1") == {"hr__people": (2, 3)}
    tamper(warehouse, f"update ops.dead_letters set state = '{state}' where stage = 'rule'")
    assert count_failed(warehouse, "run-1") == {"hr__people": (1, 3)}
    tamper(warehouse, f"update ops.dead_letters set state = '{state}'")
    assert count_failed(warehouse, "run-1") == {"hr__people": (0, 3)}
