"""The books on a warehouse whose raw and outcomes are written by hand."""

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from operations.books import SourceBook, close_books, count_failed
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
                    9 as position_bytes, timestamptz '2026-01-01' as loaded_at
                from range(2);
            create table raw._dlt_loads as select 'p1' as load_id, 0 as status from range(2);
            create table raw.hr__people as
                select 'l1' as _load_id, 'hash' as _content_hash, line as _line from range(2) as rows (line), range(2);
            create table marts.outcomes_people as
                select 'l1' as load_id, 'hr__people' as source, 'accepted' as outcome from range(2);
        """)
    return path


def test_a_load_that_a_crash_wrote_twice_is_one_load(warehouse: Path) -> None:
    (book,) = close_books(warehouse, "run-1", ["hr__people"])
    assert book == SourceBook("hr__people", records_read=2, records_loaded=2, count_accepted=2)
    assert book.is_balanced


def test_a_load_is_booked_once(warehouse: Path) -> None:
    close_books(warehouse, "run-1", ["hr__people"])
    assert close_books(warehouse, "run-2", ["hr__people"]) == [SourceBook("hr__people")]


def test_a_load_that_does_not_balance_stays_open(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("delete from marts.outcomes_people")
    for run_id in ("run-1", "run-2"):
        (book,) = close_books(warehouse, run_id, ["hr__people"])
        assert book.gap == "hr__people: 2 loaded, but no outcomes model counts them"


def test_a_content_that_came_twice_before_a_book_was_closed_is_skipped_once(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("""
            insert into raw.loads
                select distinct
                    'l2', 'run-2', source, records_read, 0, 'p1', content_hash, 0, 9, timestamptz '2026-01-02'
                from raw.loads;
            insert into raw.hr__people select distinct 'l2', 'hash', _line from raw.hr__people;
            -- the models count the latest
            update marts.outcomes_people set load_id = 'l2';
        """)
    (book,) = close_books(warehouse, "run-2", ["hr__people"])
    assert book == SourceBook("hr__people", records_read=4, records_loaded=2, records_skipped=2, count_accepted=2)


def test_a_content_that_was_loaded_and_then_skipped_counts_as_loaded(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("""
            insert into raw.loads
                select distinct
                    'l2', 'run-2', source, records_read, records_read, 'p1', content_hash, 0, 9,
                    timestamptz '2026-01-02'
                from raw.loads;
        """)
    (book,) = close_books(warehouse, "run-2", ["hr__people"])
    assert book == SourceBook("hr__people", records_read=4, records_loaded=2, records_skipped=2, count_accepted=2)


def test_a_source_that_left_the_settings_without_a_model_holds_nothing(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("delete from marts.outcomes_people")
    (book,) = close_books(warehouse, "run-1", [])
    assert (book.is_abandoned, book.is_balanced, book.records_loaded) == (True, True, 2)
    assert count_failed(warehouse, "run-1") == {}
    # Its loads stay open: declared again, it is missed again.
    (book,) = close_books(warehouse, "run-2", ["hr__people"])
    assert book.gap == "hr__people: 2 loaded, but no outcomes model counts them"


def test_a_source_that_left_the_settings_but_has_a_model_is_in_the_books(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("update marts.outcomes_people set load_id = 'an earlier one'")
    (book,) = close_books(warehouse, "run-1", [])
    assert (book.is_abandoned, book.is_balanced) == (False, False)
