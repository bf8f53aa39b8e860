"""Letters read once more: each comes to one row or one dead letter, whatever stands in it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundation.sources import CsvSource, JsonSource, Source
from ingestion.parcels import Batch, Parcel
from ingestion.readers.replays import REPLAY_SCHEMA, ReplayReader
from tests.arrow import fetch, letters_of

COLUMNS = ("id", "name")
DIALECT = json.dumps({"delimiter": ";", "quote": '"', "escape": '"'})
CSV = CsvSource(type="csv", path="in/*.csv")
JSON = JsonSource(type="json", path="in/*.json")


class Desk:
    """Reads letters that are given as texts; the letter number n is `L<n>`, from line n + 10 of in/a.csv."""

    def __init__(self, batch: Batch, folder: Path) -> None:
        self.batch, self.file = batch, folder / "letters.parquet"

    def read(
        self, texts: Sequence[str], source: Source = CSV, landed: Sequence[str] = (), **changes: Any
    ) -> list[Parcel]:
        """The parcels of these letters; an object is one that says so by its braces."""
        is_csv = isinstance(source, CsvSource)
        rows = [
            {
                "letter_id": f"L{number}",
                "replay_key": f"L{number}-{text[:3]}",
                "location": "in/a.csv",
                "line": number + 10,
                "record": text,
                "is_object": not is_csv or text.startswith("{"),
                "columns": json.dumps(COLUMNS),
                "dialect": DIALECT,
            }
            | {name: values[number] for name, values in changes.items()}
            for number, text in enumerate(texts)
        ]
        pq.write_table(pa.Table.from_pylist(rows, REPLAY_SCHEMA), self.file)
        known = pa.array(list(landed), pa.string())
        reader = ReplayReader("hr__people", source, self.batch, COLUMNS, {}, known, "settings")
        return list(reader.parcels(self.file))


@pytest.fixture
def desk(batch: Batch, tmp_path: Path) -> Desk:
    return Desk(batch, tmp_path)


def people(parcels: Sequence[Parcel]) -> list[tuple[Any, ...]]:
    """Line, id and name of every row."""
    return sorted(
        row for parcel in parcels if parcel.rows for row in fetch(parcel.rows, "select _line, id, name from found")
    )


def test_lines_are_read_in_the_dialect_of_their_file_and_objects_by_the_names_of_columns(desk: Desk) -> None:
    parcels = desk.read(["1;Ann", '2;"Bell; Bob"', '{"name": "Cy", "id": 3}', '{\n "id": null,\n "name": {"a": 1}}\n'])
    assert people(parcels) == [(10, "1", "Ann"), (11, "2", "Bell; Bob"), (12, "3", "Cy"), (13, None, '{"a":1}')]
    assert letters_of(parcels) == []


def test_a_row_bears_the_place_and_the_letter_that_it_comes_from(desk: Desk) -> None:
    (parcel,) = desk.read(["1;Ann", "2;Bob"], location=["in/a.csv", "in/b.csv"])
    (first, second) = parcel.loads
    assert [(load.kind, load.location, load.records_read, load.records_loaded) for load in parcel.loads] == [
        ("replay", "in/a.csv", 1, 1),
        ("replay", "in/b.csv", 1, 1),
    ]
    assert first.content_hash != second.content_hash
    assert parcel.rows is not None
    rows = fetch(parcel.rows, "select _location, _content_hash, _line, _load_id from found order by all")
    assert rows == [("in/a.csv", "L0-1;A", 10, first.load_id), ("in/b.csv", "L1-2;B", 11, second.load_id)]


def test_each_letter_that_is_still_no_record_is_set_aside_and_costs_no_other(desk: Desk) -> None:
    texts = ["1;Ann;x", '2;"Bob', "3;Cy", "4;D\n5;E", "   ", '6;"F', '{"id": 1, "nmae": "x"}', "7;G", '{"id": NaN}']
    parcels = desk.read(texts)
    assert people(parcels) == [(12, "3", "Cy"), (17, "7", "G")]
    assert letters_of(parcels, "line, reason, record") == [
        (10, "ragged_line", "1;Ann;x"),
        (11, "broken_quote", '2;"Bob'),
        (13, "not_one_record", "4;D\n5;E"),
        (14, "empty_record", "   "),
        (15, "broken_quote", '6;"F'),
        (16, "unknown_columns", '{"id": 1, "nmae": "x"}'),
        (18, "invalid_json", '{"id": NaN}'),
    ]
    (load,) = parcels[0].loads
    assert (load.records_read, load.records_loaded, load.records_dead_lettered, load.records_skipped) == (9, 2, 7, 0)
    assert ("hr__people has no column nmae: it has id, name",) in letters_of(parcels, "message")


def test_a_json_record_keeps_its_text(desk: Desk) -> None:
    parcels = desk.read(['{"id": 1.50}', "[1]", '{"id": "\\ud800"}', "", '{"a": 1} {"b": 2}'], JSON)
    assert [row for parcel in parcels if parcel.rows for row in fetch(parcel.rows, "select record from found")] == [
        ('{"id": 1.50}',)
    ]
    assert [reason for _, reason, _ in letters_of(parcels)] == [
        "not_an_object",
        "invalid_json",
        "empty_record",
        "invalid_json",
    ]


def test_what_was_landed_before_is_skipped(desk: Desk) -> None:
    (parcel,) = desk.read(["1;Ann", "2;Bob"], landed=["L0-1;A"])
    assert people([parcel]) == [(11, "2", "Bob")]
    assert (parcel.count("read"), parcel.count("loaded"), parcel.count("skipped")) == (2, 1, 1)
    (parcel,) = desk.read(["1;Ann"], landed=["L0-1;A"])
    assert parcel.rows is None
    assert parcel.count("skipped") == 1


def test_a_source_says_its_dialect_anew(desk: Desk) -> None:
    parcels = desk.read(["1|Ann"], CSV.model_copy(update={"delimiter": "|"}))
    assert people(parcels) == [(10, "1", "Ann")]


def test_a_line_whose_columns_nobody_knows_is_set_aside(desk: Desk) -> None:
    parcels = desk.read(["1;Ann"], columns=[None])
    assert letters_of(parcels) == [
        (10, "not_an_object", "the columns of its file are not known: write the record as a JSON object")
    ]


def test_many_letters_come_in_parcels_of_bounded_size(desk: Desk) -> None:
    texts = [f"{number};Ann" if number % 3 else f"{number}" for number in range(5_000)]
    parcels = desk.read(texts)
    assert [parcel.count("read") for parcel in parcels] == [2_000, 2_000, 1_000]
    assert people(parcels) == [(number + 10, str(number), "Ann") for number in range(5_000) if number % 3]
    assert len(letters_of(parcels)) == 1_667


def test_a_frozen_shape_holds_for_replays_too(batch: Batch, tmp_path: Path) -> None:
    desk = Desk(batch, tmp_path)
    desk.read(['{"id": 1}'], JSON)
    source = JSON.model_copy(update={"schema_drift": "dead_letter"})
    reader = ReplayReader("hr__people", source, batch, (), {"id": ["string"]}, pa.array([], pa.string()), "")
    (parcel,) = reader.parcels(desk.file)
    assert [reason for _, reason, _ in letters_of([parcel])] == ["schema_drift"]
    assert replace(parcel, dead_letters=None).rows is None
