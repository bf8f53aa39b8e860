"""File exports: their exact bytes."""

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from foundation.errors import ConfigError, PublishError, StorageError
from foundation.events import Event, ignore
from foundation.settings import Export, Output
from publishing import exports
from publishing.exports import bring_back_exports, export, keep_exports
from publishing.releases import Release

HEADINGS = {
    "id": "ID",
    "name": "Name",
    "email": "Email",
    "age": "Age",
    "department": "Department",
    "salary": "Salary",
    "join_date": "Join Date",
    "is_active": "Is Active",
}


def employees_output(*formats: str) -> dict[str, Output]:
    export_to = Export.model_validate({"formats": list(formats), "columns": HEADINGS})
    return {"employees": Output(key=["id"], json_columns=["metadata"], export=export_to)}


def things_output(*formats: str, **more: Any) -> dict[str, Output]:
    return {"things": Output(key=["id"], export=Export.model_validate({"formats": list(formats)}), **more)}


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema marts")
        connection.execute(
            "create table marts.employees (id varchar, name varchar, email varchar, age integer, department varchar,"
            " salary decimal(12, 2), join_date date, is_active boolean, metadata varchar)"
        )
        connection.execute(
            """insert into marts.employees values
            ('2', 'Bob "B", Jr.', 'bob@example.com', 41, 'Sales', 50000, null, false, null),
            ('10', 'Zoë' || chr(10) || '李', '', 29, 'HR', 0.10, '2020-12-31', null, '[]'),
            ('1', 'Ada', 'ada@example.com', 36, 'Engineering', 120000.50, '2015-03-01', true,
             '{"team":{"no":1.10,"big":12345678901234567890.1230},"tags":["a    b","\\u00e9\\n1"],"e":{},"n":-1E+2}')
            """
        )
    return path


def put_things(warehouse: Path, query: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f"create or replace table marts.things as {query}")


def test_csv_has_the_headings_dates_and_answers_that_were_asked_for(warehouse: Path, tmp_path: Path) -> None:
    (file,) = export(warehouse, employees_output("csv"), tmp_path / "out", ignore)
    assert file == tmp_path / "out" / "employees.csv"
    assert file.read_bytes().decode() == (
        "ID,Name,Email,Age,Department,Salary,Join Date,Is Active\n"
        "1,Ada,ada@example.com,36,Engineering,120000.50,2015-03-01,Yes\n"
        '10,"Zoë\n李","",29,HR,0.10,2020-12-31,\n'
        '2,"Bob ""B"", Jr.",bob@example.com,41,Sales,50000.00,,No\n'
    )


def test_json_is_an_array_indented_by_two_spaces_with_numbers_as_written(warehouse: Path, tmp_path: Path) -> None:
    (file,) = export(warehouse, employees_output("json"), tmp_path, ignore)
    assert file.read_bytes().decode() == (
        """[
  {
    "id": "1",
    "name": "Ada",
    "email": "ada@example.com",
    "age": 36,
    "department": "Engineering",
    "salary": 120000.50,
    "join_date": "2015-03-01",
    "is_active": true,
    "metadata": {
      "team": {
        "no": 1.10,
        "big": 12345678901234567890.1230
      },
      "tags": [
        "a    b",
        "é\\n1"
      ],
      "e": {},
      "n": -1E+2
    }
  },
  {
    "id": "10",
    "name": "Zoë\\n李",
    "email": "",
    "age": 29,
    "department": "HR",
    "salary": 0.10,
    "join_date": "2020-12-31",
    "is_active": null,
    "metadata": []
  },
  {
    "id": "2",
    "name": "Bob \\"B\\", Jr.",
    "email": "bob@example.com",
    "age": 41,
    "department": "Sales",
    "salary": 50000.00,
    "join_date": null,
    "is_active": false,
    "metadata": null
  }
]
"""
    )


def test_parquet_has_the_rows_and_types_of_the_mart_in_the_order_of_the_key(warehouse: Path, tmp_path: Path) -> None:
    (file,) = export(warehouse, employees_output("parquet"), tmp_path, ignore)
    with duckdb.connect(str(warehouse)) as connection:
        expected = connection.execute("select * from marts.employees order by id").fetchall()
        assert connection.execute("select * from read_parquet(?)", [str(file)]).fetchall() == expected
        types = "select column_name, column_type from (describe {})"
        assert (
            connection.execute(types.format(f"select * from '{file}'")).fetchall()
            == connection.execute(types.format("marts.employees")).fetchall()
        )


JSON_VALUES = [
    ("12.50::decimal(5, 2)", "12.50"),
    ("-0.001::decimal(5, 3)", "-0.001"),
    ("99999999999999999999999999999999999999::hugeint", "99999999999999999999999999999999999999"),
    ("1e300::double", "1e+300"),
    ("'nan'::double", "null"),
    ("timestamptz '2024-01-02 03:04:05.5+02'", '"2024-01-02T01:04:05.5Z"'),
    ("timestamp '2024-01-02 03:04:05'", '"2024-01-02T03:04:05"'),
    ("'1 2+00'", '"1 2+00"'),
    ("chr(1) || 'a\\/\"' || chr(9)", '"\\u0001a\\\\/\\"\\t"'),
    ("'{}'::json", "{}"),
    ("'  7.00 '::json", "7.00"),
    ("'\"4    5\"'::json", '"4    5"'),
    (
        '\'[1.0,"2",[],{"3":4e5}]\'::json',
        '[\n      1.0,\n      "2",\n      [],\n      {\n        "3": 4e5\n      }\n    ]',
    ),
    ("['x', null]", '[\n      "x",\n      null\n    ]'),
]


@pytest.mark.parametrize(("value", "expected"), JSON_VALUES)
def test_json_writes_each_type_exactly(warehouse: Path, tmp_path: Path, value: str, expected: str) -> None:
    put_things(warehouse, f'select 1 as id, {value} as "the ""value"""')
    (file,) = export(warehouse, things_output("json"), tmp_path, ignore)
    text = file.read_text(encoding="utf-8")
    assert text == f'[\n  {{\n    "id": 1,\n    "the \\"value\\"": {expected}\n  }}\n]\n'
    json.loads(text)


@pytest.mark.parametrize(("extension", "expected"), [("csv", "id,value\n"), ("json", "[]\n")], ids=["csv", "json"])
def test_a_mart_without_rows_is_an_empty_file_of_its_kind(
    warehouse: Path, tmp_path: Path, extension: str, expected: str
) -> None:
    put_things(warehouse, "select 1 as id, 2 as value where false")
    (file,) = export(warehouse, things_output(extension), tmp_path, ignore)
    assert file.read_text() == expected


def test_many_rows_come_in_the_order_of_the_key_and_the_same_each_time(warehouse: Path, tmp_path: Path) -> None:
    rows = 130_000  # more than one batch of rows in every part of the way
    put_things(
        warehouse, f"select i as id, i / 8 as share, 'n' || i as name from range({rows}) as t(i) order by hash(i)"
    )
    output = things_output("csv", "json", "parquet")
    first = [file.read_bytes() for file in export(warehouse, output, tmp_path / "a", ignore)]
    assert [file.read_bytes() for file in export(warehouse, output, tmp_path / "b", ignore)] == first
    records = json.loads(first[1], parse_float=Decimal)
    assert records == [{"id": i, "share": Decimal(i) / 8, "name": f"n{i}"} for i in range(rows)]
    assert first[0].decode().splitlines()[1:] == [f"{i},{i / 8},n{i}" for i in range(rows)]


def test_files_are_listed_and_nothing_else_is_left_beside_them(warehouse: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    out = tmp_path / "out"
    out.mkdir()
    (out / ".employees.csv.unfinished").write_text("left by a crash")
    files = export(warehouse, employees_output("csv", "json", "parquet"), out, events.append)
    assert files == [out / f"employees.{extension}" for extension in ("csv", "json", "parquet")]
    assert sorted(out.iterdir()) == sorted(files)
    assert [(e.name, e.stage, e.source, dict(e.counts)) for e in events] == [
        ("started", "export", "employees", {}),
        ("finished", "export", "employees", {"files": 3}),
    ]


def test_a_file_is_replaced_only_by_a_whole_one(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "employees.json").write_text("before")

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "_texts", fail)
    with pytest.raises(StorageError, match=r"cannot be written: No space left on device .*employees\.json"):
        export(warehouse, employees_output("json"), tmp_path, ignore)
    assert (tmp_path / "employees.json").read_text() == "before"
    assert not list(tmp_path.glob(".employees*"))


def test_a_folder_that_cannot_be_made_is_told(warehouse: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match="the export cannot be written"):
        export(warehouse, employees_output("csv"), tmp_path / "out", ignore)


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        ({"nope": things_output("csv")["things"]}, PublishError, "the mart nope is not in the warehouse"),
        (
            {"employees": things_output("csv")["things"].model_copy(update={"key": ["no"]})},
            ConfigError,
            "no column 'no'",
        ),
        ({"employees": things_output("json", json_columns=["name"])["things"]}, PublishError, "text that is not JSON"),
    ],
)
def test_an_output_that_does_not_fit_its_mart_is_told(
    warehouse: Path, tmp_path: Path, outputs: dict[str, Output], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export(warehouse, outputs, tmp_path / "out", ignore)
    assert not (tmp_path / "out").exists()


def test_an_output_without_exports_writes_nothing(tmp_path: Path) -> None:
    assert export(tmp_path / "none.duckdb", {"employees": Output(key=["id"])}, tmp_path, ignore) == []


TEXTS = ["=1+1", "+49 30 1", "-5", "-5.0e1", "-x", "@x", "\tx", "  =cmd", "＝1", "plain", "", "a=b", "'=1"]


@pytest.mark.parametrize("is_neutral", [True, False])
def test_texts_that_a_spreadsheet_would_take_for_formulas_are_no_formulas(
    warehouse: Path, tmp_path: Path, is_neutral: bool
) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create table marts.things (id integer, v varchar)")
        connection.executemany("insert into marts.things values (?, ?)", [*enumerate(TEXTS)])
    told = Export.model_validate({"formats": ["csv", "json"], "neutralise_formulas": is_neutral})
    csv_file, json_file = export(warehouse, {"things": Output(key=["id"], export=told)}, tmp_path, ignore)
    with csv_file.open(encoding="utf-8", newline="") as lines:
        found = [row["v"] for row in csv.DictReader(lines)]
    safe = ["'=1+1", "'+49 30 1", "-5", "-5.0e1", "'-x", "'@x", "'\tx", "'  =cmd", "'＝1", "plain", "", "a=b", "'=1"]
    assert found == (safe if is_neutral else TEXTS)
    assert [row["v"] for row in json.loads(json_file.read_text())] == TEXTS


def release(number: int, oldest: int = 1) -> Release:
    return Release(number, f"run-{number}", datetime(2026, 1, number, tzinfo=UTC), True, {}, number, oldest)


def test_files_of_an_earlier_release_are_put_back_as_they_were(warehouse: Path, tmp_path: Path) -> None:
    outputs = things_output("csv", "json")
    written = {}
    for number in (1, 2):
        put_things(warehouse, f"select 1 as id, {number} as v")
        files = export(warehouse, outputs, tmp_path, ignore)
        keep_exports(files, tmp_path, release(number))
        written[number] = [file.read_bytes() for file in files]
    assert bring_back_exports(outputs, tmp_path, 1) == files
    assert [file.read_bytes() for file in files] == written[1] != written[2]
    assert bring_back_exports(outputs, tmp_path, 2) == files
    assert [file.read_bytes() for file in files] == written[2]
    assert bring_back_exports(outputs, tmp_path, 3) == []


def test_files_are_kept_as_long_as_their_release(warehouse: Path, tmp_path: Path) -> None:
    put_things(warehouse, "select 1 as id")
    for number, oldest in ((1, 1), (2, 1), (10, 2)):
        keep_exports(export(warehouse, things_output("csv"), tmp_path, ignore), tmp_path, release(number, oldest))
    assert sorted(path.name for path in (tmp_path / ".releases").iterdir()) == ["10", "2"]


def test_files_are_kept_where_links_are_not_possible(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    put_things(warehouse, "select 1 as id")
    files = export(warehouse, things_output("csv"), tmp_path, ignore)
    keep_exports(files, tmp_path, release(1))
    files[0].write_text("other")
    assert bring_back_exports(things_output("csv"), tmp_path, 1) == files
    assert files[0].read_text() == "id\n1\n"
