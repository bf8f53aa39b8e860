"""What a run tells of its dead letters: why and where, never what they hold."""

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from operations.letters.commands import print_groups
from operations.letters.examples import read_dead_letters, told


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Letters of two runs; a crash wrote those of the first run twice."""
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("""
            create schema raw;
            create table raw.dead_letters as
                select
                    run_id || line as dead_letter_id, run_id, 'hr__x' as source, 'not_utf8' as reason,
                    'in/rand.csv' as location, line, null::bigint as page, line * 10 as byte_offset,
                    'byte 0x8' || line || ' is not valid UTF-8' as message, 'Ada Hush' as record
                from unnest(['r1', 'r1', 'r2']) as runs(run_id), unnest([12, 3, 2]) as lines(line);
        """)
    return path


def test_a_run_tells_how_many_why_and_where_the_first_is(warehouse: Path) -> None:
    assert told(read_dead_letters(warehouse, "r1"), "r1") == [
        "hr__x: 3 not_utf8, first in/rand.csv line 2: byte 0x82 is not valid UTF-8",
        "dead letters: penstock deadletters list --run r1",
    ]
    assert told(read_dead_letters(warehouse, "r3"), "r3") == []
    (group,) = read_dead_letters(warehouse, "r1")
    assert list(group) == ["source", "reason", "records", "message", "location", "line", "page"]


def test_a_source_is_told_on_one_line_and_a_long_place_is_folded() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    source, location = "a_warehouse__with_a_long_name", "inbox/" + "q" * 80 + ".csv"
    group = {"source": source, "stage": "parse", "reason": "ragged_line", "state": "open", "letters": 3}
    text = StringIO()
    print_groups([group | {"first_seen": at, "last_seen": at, "example": location}], Console(file=text, width=140))
    assert f"{source}  parse" in text.getvalue()
    assert text.getvalue().count("q") == 80
    assert max(map(len, text.getvalue().splitlines())) <= 140


def test_a_warehouse_without_dead_letters_tells_none(tmp_path: Path) -> None:
    assert read_dead_letters(tmp_path / "new.duckdb", "r1") == []


def test_many_kinds_are_told_in_few_lines(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("update raw.dead_letters set run_id = 'r4', dead_letter_id = rowid, reason = 'r' || rowid")
        connection.execute("insert into raw.dead_letters select * replace ('s' as source) from raw.dead_letters")
    lines = told(read_dead_letters(warehouse, "r4"), "r4")
    assert len(lines) == 12
    assert lines[10] == "and 8 more kinds of dead letters"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "the answer is not JSON but text/html: '<h1>Ada Hush</h1>'",
            "the answer is not JSON but text/html: (not shown)",
        ),
        ("the header has none of the columns id; it is 'Ada, Hush'; if it", "it is (not shown); if it"),
        ("the key 'age' is string, expected number", "the key 'age' is string, expected number"),
        ("\x1b[2Jgone\nand more", "?[2Jgone and more"),
    ],
)
def test_a_message_shows_nothing_of_the_record(warehouse: Path, message: str, shown: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("update raw.dead_letters set message = ?", [message])
    (letter,) = read_dead_letters(warehouse, "r1")
    assert letter["message"].endswith(shown)
    assert "Hush" not in letter["message"]
