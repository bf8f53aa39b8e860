"""The chain of the books: what is changed in them later shows, wherever it is."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from operations.accounts import chain
from operations.accounts.books import close_books, close_mart_books
from operations.accounts.chain import Link, Note, Verdict
from operations.ledger import Ledger


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Three runs, each with the entries 1, 5, 9 of a source, 2, 6, 10 of a mart, 3, 7, 11 of a closing and one of a
    published mart."""
    path = tmp_path / "warehouse.duckdb"
    for day, run_id in enumerate(("run-1", "run-2", "run-3"), 1):
        Ledger(path, run_id).start("run", datetime(2026, 1, day, tzinfo=UTC), date(2026, 1, day))
        with duckdb.connect(str(path)) as connection:
            connection.execute("""
                create schema if not exists raw;
                create schema if not exists marts;
                create table if not exists raw.loads as
                    select 'l' as load_id, 'run-1' as run_id, 'hr__people' as source, 0 as records_read,
                        0 as records_skipped, 'p' as _dlt_load_id, 'hash' as content_hash, 0 as start_bytes,
                        0 as position_bytes, timestamptz '2026-01-01' as loaded_at;
                create table if not exists raw._dlt_loads as select 'p' as load_id, 0 as status;
                create table if not exists marts.people as select 1 as id;
            """)
        close_books(path, run_id, ["hr__people"])
        close_mart_books(path, run_id, {"people": 1}, 7, {"people": {"rows": 1, "checksum": 5}})
    return path


def verify(warehouse: Path, notes: Sequence[Note] = ()) -> Verdict:
    with duckdb.connect(str(warehouse)) as connection:
        return chain.verify(connection, notes)


def newest(warehouse: Path) -> Link:
    with duckdb.connect(str(warehouse)) as connection:
        return chain.newest(connection)


def tamper(warehouse: Path, statements: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(statements)


def test_books_that_nobody_changed_fit(warehouse: Path) -> None:
    verdict = verify(warehouse)
    assert (verdict.newest, verdict.newest.entry_number, verdict.flaw) == (newest(warehouse), 12, "")


@pytest.mark.parametrize(
    ("statement", "flaw"),
    [
        ("update ops.books set records_read = 1 where entry_number = 5", "entry 5 (ops.books, run-2 hr__people)"),
        ("update ops.books set checksum_loaded = null where entry_number = 5", "entry 5 (ops.books"),
        ("update ops.books set run_id = 'run-9' where entry_number = 1", "entry 1 (ops.books, run-9 hr__people)"),
        ("update ops.candidate_books set checksum_candidates = '1' where entry_number = 6", "entry 6 (ops.cand"),
        ("update ops.closings set as_of = date '2020-01-01' where entry_number = 7", "entry 7 (ops.closings, run-2)"),
        ("update ops.closings set closed_at = closed_at + interval 1 second", "entry 3 (ops.closings, run-1)"),
        ("update ops.mart_books set measures = '{}' where entry_number = 8", "entry 8 (ops.mart_books, run-2 people)"),
        ("update ops.mart_books set is_balanced = false where entry_number = 12", "entry 12 (ops.mart_books"),
        ("update ops.books set entry_hash = 'f' where entry_number = 9", "entry 9 (ops.books"),
        ("update ops.books set previous_hash = 'f' where entry_number = 9", "entry 9 (ops.books"),
    ],
)
def test_an_entry_that_was_altered_is_named(warehouse: Path, statement: str, flaw: str) -> None:
    tamper(warehouse, statement)
    found = verify(warehouse).flaw
    assert found.startswith(flaw)
    assert "was altered" in found


@pytest.mark.parametrize("number", range(1, 12))
def test_an_entry_that_was_taken_out_is_missed(warehouse: Path, number: int) -> None:
    tamper(warehouse, ";".join(f"delete from ops.{table} where entry_number = {number}" for table in chain.CHAINED))
    assert verify(warehouse).flaw.startswith(f"entry {number} is gone; entry {number + 1} ")


@pytest.mark.parametrize("table", chain.CHAINED)
def test_an_entry_that_was_put_in_is_named(warehouse: Path, table: str) -> None:
    tamper(warehouse, f"insert into ops.{table} select * from ops.{table} order by entry_number limit 1")
    assert "is there twice" in verify(warehouse).flaw


def test_an_entry_without_a_number_is_named(warehouse: Path) -> None:
    tamper(
        warehouse,
        "alter table ops.books alter entry_number drop not null;"
        "insert into ops.books select null, * exclude (entry_number) from ops.books limit 1",
    )
    assert "was put in" in verify(warehouse).flaw


def test_entries_that_changed_places_are_named(warehouse: Path) -> None:
    tamper(
        warehouse,
        "update ops.books set entry_number = case entry_number when 5 then 9 else 5 end where entry_number in (5, 9)",
    )
    assert verify(warehouse).flaw.startswith("entry 5 (ops.books")


def test_an_end_that_was_cut_off_is_missed_by_what_is_noted_outside(warehouse: Path) -> None:
    note = Note("last_run.json", newest(warehouse))
    assert verify(warehouse, [note]) == Verdict(note.link, "", ["last_run.json"], [])
    tamper(warehouse, ";".join(f"delete from ops.{table} where entry_number > 8" for table in chain.CHAINED))
    assert verify(warehouse).flaw == ""
    assert verify(warehouse, [note]).flaw == ("the last entry is 8, but last_run.json notes entry 12: the end is gone")


def test_books_that_are_gone_altogether_are_missed(warehouse: Path) -> None:
    note = Note("release 1", newest(warehouse))
    tamper(warehouse, ";".join(f"delete from ops.{table}" for table in chain.CHAINED))
    assert "the last entry is 0, but release 1 notes entry 12" in verify(warehouse, [note]).flaw
    assert "the last entry is 0" in chain.verify(None, [note]).flaw


def test_an_end_that_was_written_anew_is_told_by_what_is_noted_outside(warehouse: Path) -> None:
    note = Note("release 1", newest(warehouse))
    tamper(warehouse, "delete from ops.mart_books where entry_number = 12")
    close_mart_books(warehouse, "run-3", {"people": 2}, 7)
    assert verify(warehouse).flaw == ""
    assert verify(warehouse, [note]).flaw.startswith("entry 12 is not the one that release 1 notes")


def test_a_note_about_another_ledger_is_told_apart(warehouse: Path) -> None:
    verdict = verify(warehouse, [Note("release 1", Link(99, "f", "run-0"))])
    assert (verdict.flaw, verdict.compared, verdict.foreign) == ("", [], ["release 1"])


def test_the_books_of_an_older_version_become_the_start_of_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("""
            create schema ops;
            create table ops.books as
                select * from (values
                    ('run-2', 'b', 9, 8, 1, 0, 6, 1, 1, true), ('run-1', 'a', 5, 5, 0, 0, 5, 0, 0, true)
                ) as rows (
                    run_id, source, records_read, records_loaded, records_dead_lettered, records_skipped,
                    count_accepted, count_duplicate, count_rejected, is_balanced
                );
            create table ops.mart_books as
                select 'run-1' as run_id, 'people' as mart, 5 as count_candidates, 5 as count_published,
                    true as is_balanced;
        """)
    Ledger(path, "run-3").start("run", datetime(2026, 1, 3, tzinfo=UTC), date(2026, 1, 3))
    close_books(path, "run-3", ["a"])
    with duckdb.connect(str(path)) as connection:
        entries = connection.execute(
            "select entry_number, run_id, source, records_read, count_rejected from ops.books order by all"
        ).fetchall()
        marts = connection.execute("select entry_number, run_id, count_published from ops.mart_books").fetchall()
    assert entries == [(1, "run-1", "a", 5, 0), (3, "run-2", "b", 9, 1), (4, "run-3", "a", 0, 0)]
    assert marts == [(2, "run-1", 5)]
    assert verify(path).flaw == ""
