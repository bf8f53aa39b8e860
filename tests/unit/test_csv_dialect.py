"""Dialects, headers and encodings of CSV files: what is not set is found out, told, and never guessed into silence."""

import codecs
import csv
import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from foundation.errors import ConfigError, SourceError
from foundation.settings import load_settings
from foundation.sources import CsvSource
from ingestion.names import LONGEST_NAME, raw_columns
from ingestion.parcels import Batch, Parcel
from ingestion.readers.csv_files.dialect import NoTableError, find_dialect
from ingestion.readers.csv_files.files import read_csv_file
from ingestion.readers.framing import KnownPrefix
from ingestion.stores import StoredFile
from tests.arrow import known_after, letters_of, rows_of


class Inbox:
    """One file that is written and read again and again, as runs do it."""

    def __init__(self, folder: Path, batch: Batch) -> None:
        self.path = folder / "in.csv"
        self.batch = batch
        self.notices: list[str] = []
        self.known: KnownPrefix | None = None

    def read(self, data: bytes | None = None, *, expected: Sequence[str] = (), **options: Any) -> list[Parcel]:
        """What a run finds in the file, which holds `data` now."""
        if data is not None:
            self.path.write_bytes(data)
        self.notices.clear()
        source = CsvSource(type="csv", path="*.csv", **options)
        file = StoredFile(self.path, self.path.name)
        parcels = list(read_csv_file(file, "a__b", source, self.known, self.batch, self.notices.append, expected))
        if parcels:
            self.known = known_after(parcels)
        return parcels

    def forget(self) -> "Inbox":
        """As before the first run."""
        self.known = None
        return self


@pytest.fixture
def inbox(tmp_path: Path, batch: Batch) -> Inbox:
    return Inbox(tmp_path, batch)


def values_of(parcels: Sequence[Parcel]) -> list[tuple[Any, ...]]:
    """The values of every row, without its line."""
    return [row[1:] for row in rows_of(parcels)]


def columns_of(parcels: Sequence[Parcel]) -> list[str]:
    return [str(column) for column in json.loads(parcels[0].loads[0].columns)] if parcels else []


def _people(delimiter: str, *, header: bool = True, point: str = ".") -> bytes:
    rows = [("1", "Ann", "2024-01-02", "1.5"), ("2", "Bob", "2024-02-03", "2.25"), ("3", "Eve", "2024-03-04", "10.0")]
    lines = [("id", "name", "day", "salary")] if header else []
    lines += [(*row[:3], row[3].replace(".", point)) for row in rows]
    return "".join(delimiter.join(line) + "\n" for line in lines).encode()


PEOPLE = [("1", "Ann", "2024-01-02", "1.5"), ("2", "Bob", "2024-02-03", "2.25"), ("3", "Eve", "2024-03-04", "10.0")]
WITH_COMMAS = [
    ("1", "Ann", "2024-01-02", "1,5"),
    ("2", "Bob", "2024-02-03", "2,25"),
    ("3", "Eve", "2024-03-04", "10,0"),
]
TWO = [("1", "a"), ("2", "b")]

# What a file holds, the columns and rows that raw gets, and what penstock.yml says of it.
DIALECTS: dict[str, tuple[bytes, str, list[tuple[Any, ...]], dict[str, Any]]] = {
    "commas": (_people(","), "id name day salary", PEOPLE, {}),
    "semicolons with decimal commas": (_people(";", point=","), "id name day salary", WITH_COMMAS, {}),
    "tabs": (_people("\t"), "id name day salary", PEOPLE, {}),
    "pipes": (_people("|"), "id name day salary", PEOPLE, {}),
    "carets": (_people("^"), "id name day salary", PEOPLE, {}),
    "tildes": (_people("~"), "id name day salary", PEOPLE, {}),
    "colons": (_people(":"), "id name day salary", PEOPLE, {}),
    "start of heading, as Hive has it": (_people("\x01"), "id name day salary", PEOPLE, {}),
    "two characters, declared": (_people("||"), "id name day salary", PEOPLE, {"delimiter": "||"}),
    "a character beyond ASCII, declared": (_people("§"), "id name day salary", PEOPLE, {"delimiter": "§"}),
    "the delimiter in quotes": (b'id;name\n1;"a;b"\n2;"c;d;e"\n', "id name", [("1", "a;b"), ("2", "c;d;e")], {}),
    "commas in quotes among semicolons": (
        b'id;name;x\n1;"a, b";1\n2;"c, d";2\n',
        "id name x",
        [("1", "a, b", "1"), ("2", "c, d", "2")],
        {},
    ),
    "one column": (b"name\nAnn\nBob\n", "name", [("Ann",), ("Bob",)], {}),
    "one column of numbers": (b"n\n1\n2\n", "n", [("1",), ("2",)], {}),
    "one column of times": (b"at\n10:20\n11:30\n", "at", [("10:20",), ("11:30",)], {}),
    "one column of text with semicolons": (b"note\na;b\nc;d\n", "note", [("a;b",), ("c;d",)], {}),
    "one line without a newline": (b"id\tname", "id name", [], {}),
    "one record": (b"id;name\n1;a\n", "id name", [("1", "a")], {}),
    "commas in the text of a tab file": (
        b"id\tname\tnote\n1\tDoe, John\ta, b, c\n2\tRoe, Jane\tx, y\n",
        "id name note",
        [("1", "Doe, John", "a, b, c"), ("2", "Roe, Jane", "x, y")],
        {},
    ),
    "as many commas as tabs in each record": (
        b"name\tnote\nDoe, John\tx\nRoe, Jane\ty\n",
        "name note",
        [("Doe, John", "x"), ("Roe, Jane", "y")],
        {},
    ),
    "a comma in the header of a semicolon file": (
        b"name;price, EUR\na;1,50\nb;2,50\n",
        "name price_eur",
        [("a", "1,50"), ("b", "2,50")],
        {},
    ),
    "newlines in quotes": (
        b'id;name\n1;"a,\nb"\n2;"c\n\nd,e"\n3;e\n',
        "id name",
        [("1", "a,\nb"), ("2", "c\n\nd,e"), ("3", "e")],
        {},
    ),
    "backslash escapes": (
        b'id,name\n1,"say \\"hi\\", man"\n2,"x"\n3,"\\"q\\""\n',
        "id name",
        [("1", 'say "hi", man'), ("2", "x"), ("3", '"q"')],
        {},
    ),
    "paths that end in a backslash": (
        b'id,path\n1,"C:\\dir\\"\n2,"D:\\x\\"\n',
        "id path",
        [("1", "C:\\dir\\"), ("2", "D:\\x\\")],
        {},
    ),
    "doubled quotes": (b'id,name\n1,"say ""hi"", man"\n', "id name", [("1", 'say "hi", man')], {}),
    "single quotes around delimiters": (
        b"id,name\n1,'a,b'\n2,'c,d'\n3,'e'\n",
        "id name",
        [("1", "a,b"), ("2", "c,d"), ("3", "e")],
        {},
    ),
    "single quotes around everything": (b"'id';'name'\n'1';'a'\n'2';'b'\n", "id name", TWO, {}),
    "apostrophes": (
        b"id,name\n1,O'Brien\n2,'tis\n3,rock 'n' roll\n",
        "id name",
        [("1", "O'Brien"), ("2", "'tis"), ("3", "rock 'n' roll")],
        {},
    ),
    "no quoting, declared": (
        b'id|size\n1|5" pipe\n2|"6" tube\n3|"\n',
        "id size",
        [("1", '5" pipe'), ("2", '"6" tube'), ("3", '"')],
        {"quote": ""},
    ),
    "quotes inside bare values": (b'id|size\n1|5" pipe\n2|6" x\n', "id size", [("1", '5" pipe'), ("2", '6" x')], {}),
    "all text": (b"Ann,Berlin\nBob,Paris\n", "ann berlin", [("Bob", "Paris")], {}),
    "all text without header, declared": (
        b"Ann,Berlin\nBob,Paris\n",
        "name city",
        [("Ann", "Berlin"), ("Bob", "Paris")],
        {"header": False, "columns": ["name", "city"]},
    ),
    "numbers without header": (
        b"1,2.5,7\n2,3.5,8\n3,4.5,9\n",
        "column_1 column_2 column_3",
        [("1", "2.5", "7"), ("2", "3.5", "8"), ("3", "4.5", "9")],
        {},
    ),
    "decimal commas without header": (
        b"1,5;2,5\n3,5;4,5\n",
        "column_1 column_2",
        [("1,5", "2,5"), ("3,5", "4,5")],
        {},
    ),
    "times without header": (
        b"2024-01-01 10:20:30,5\n2024-01-01 10:20:31,6\n",
        "column_1 column_2",
        [("2024-01-01 10:20:30", "5"), ("2024-01-01 10:20:31", "6")],
        {},
    ),
    "numbers with a header, declared": (b"1,2\n3,4\n", "column_1 column_2", [("3", "4")], {"header": True}),
    "years as headings": (
        b"country,2019,2020\nFR,1.5,2.5\nDE,3.5,4.5\n",
        "country column_2019 column_2020",
        [("FR", "1.5", "2.5"), ("DE", "3.5", "4.5")],
        {},
    ),
    "headings of the type of the data": (
        b"2019,2020,2021\n1.5,2.5,3.5\n4.5,5.5,6.5\n",
        "column_2019 column_2020 column_2021",
        [("1.5", "2.5", "3.5"), ("4.5", "5.5", "6.5")],
        {},
    ),
    "dates and times": (
        b"day;at\n01/02/2024;10:20:30\n02/02/2024;10:20:31\n",
        "day at",
        [("01/02/2024", "10:20:30"), ("02/02/2024", "10:20:31")],
        {},
    ),
    "comments before the header": (b"# by x\n# on 1 May, at noon\nid;name\n1;a\n2;b\n", "id name", TWO, {}),
    "a comment and a blank line before the header": (b"#by x\n\nid;name\n1;a\n2;b\n", "id name", TWO, {}),
    "a header that begins with #": (b"#id,name\n1,a\n2,b\n", "id name", TWO, {}),
    "values that begin with #": (b"id,colour\n#1,#fff\n#2,#000\n", "id colour", [("#1", "#fff"), ("#2", "#000")], {}),
    "the sep= line of a spreadsheet": (b"sep=;\nid;name\n1;a\n2;b\n", "id name", TWO, {}),
    "a title before declared columns": (
        b"Report of May\n\nid;name\n1;a\n2;b\n",
        "id name",
        TWO,
        {"columns": ["id", "name"]},
    ),
    "a byte order mark": (b"\xef\xbb\xbfid;name\n1;a\n2;b\n", "id name", TWO, {}),
    "a byte order mark without header": (b"\xef\xbb\xbf1;a\n2;b\n", "column_1 column_2", TWO, {}),
    "windows line ends": (b"id;name\r\n1;a\r\n2;b\r\n", "id name", TWO, {}),
    "line ends of an old Mac": (b"id;name\r1;a\r2;b\r", "id name", TWO, {}),
    "blank lines before the header": (b"\n\r\nid;name\n1;a\n2;b\n", "id name", TWO, {}),
    "headings in quotes": (b'"id";"first\nname"\n"1";"a"\n"2";"b"\n', "id first_name", TWO, {}),
    "JSON in quotes": (b'id;meta\n1;"{""a"":1,""b"":[1,2]}"\n', "id meta", [("1", '{"a":1,"b":[1,2]}')], {}),
    "declared columns, commas in all values": (
        b"id|name\n1|a,b\n2|c,d\n",
        "id name",
        [("1", "a,b"), ("2", "c,d")],
        {"columns": ["id", "name"]},
    ),
    "declared columns, no header": (
        b"1;a;2024-01-01\n2;b;2024-01-02\n",
        "id name day",
        [("1", "a", "2024-01-01"), ("2", "b", "2024-01-02")],
        {"columns": ["id", "name", "day"]},
    ),
    "a field more than declared columns": (
        b"1;a;x\n2;b;y\n",
        "id name column_3",
        [("1", "a", "x"), ("2", "b", "y")],
        {"columns": ["id", "name"], "header": False},
    ),
    "a field less than declared columns": (
        b"1;a\n2;b\n",
        "id name",
        TWO,
        {"columns": ["id", "name", "day"], "header": False},
    ),
    "addresses and times among commas": (
        b"id,url,at\n1,http://a/b,10:00\n2,http://c/d,11:00\n",
        "id url at",
        [("1", "http://a/b", "10:00"), ("2", "http://c/d", "11:00")],
        {},
    ),
    "empty fields": (b"a;b;c\n;;\n1;;2\n", "a b c", [(None, None, None), ("1", None, "2")], {}),
}


@pytest.mark.parametrize("case", DIALECTS)
def test_what_is_not_set_is_found_out(case: str, inbox: Inbox) -> None:
    data, columns, rows, options = DIALECTS[case]
    parcels = inbox.read(data, **options)
    assert columns_of(parcels) == columns.split()
    assert values_of(parcels) == rows
    assert letters_of(parcels) == []


@pytest.mark.parametrize("case", DIALECTS)
def test_a_file_that_ends_in_its_head_and_one_that_goes_on_are_read_alike(case: str, inbox: Inbox) -> None:
    data, columns, rows, options = DIALECTS[case]
    if rows and b"\r" not in data and data.endswith(b"\n"):
        last = data.splitlines(keepends=True)[-1]
        inbox.read(data, **options)
        parcels = inbox.read(data + last, **options)
        assert (columns_of(parcels), values_of(parcels)) == (columns.split(), rows[-1:])


@pytest.mark.parametrize(
    ("data", "options", "notices"),
    [
        pytest.param(b"id,name\n1,a\n", {}, [], id="the plain default"),
        pytest.param(b"id;name\n1;a\n", {"delimiter": ";"}, [], id="what is declared"),
        pytest.param(
            b"id;name\n1;a\n", {}, ["in.csv is read with delimiter ';' (fields agree over the lines)"], id="delimiter"
        ),
        pytest.param(
            b"id|name\n1|a\n",
            {"columns": ["id"]},
            ["in.csv is read with delimiter '|' (the columns that are declared)"],
            id="delimiter by the columns",
        ),
        pytest.param(
            b"sep=|\nid|name\n1|a\n",
            {},
            ["in.csv is read with 1 line before the table left out, from 'sep=|'; delimiter '|' (its sep= line)"],
            id="sep line",
        ),
        pytest.param(b"'id','name'\n'1','a,b'\n", {}, ['in.csv is read with quote "\'"'], id="quote"),
        pytest.param(b'a,b\n1,"\\"x\\", y"\n', {}, ["in.csv is read with escape '\\\\'"], id="escape"),
        pytest.param(b"1,2.5\n2,3.5\n", {}, ["in.csv is read with no header, columns by position"], id="no header"),
        pytest.param(
            b"1,a,x,y\n2,b,x,y\n",
            {"header": False, "columns": ["id", "name"]},
            ["in.csv has 4 fields a line, more than its columns, named column_3, column_4"],
            id="fields beyond the columns",
        ),
        pytest.param(
            b"1,a\n2,b\n",
            {"header": False, "columns": ["id", "name", "day"]},
            ["in.csv has 2 fields a line, without day"],
            id="fields short of the columns",
        ),
        pytest.param(
            b'id,x\n1,"a" b\n2,"c" d\n3,"e" f\n',
            {},
            ["in.csv is read with \" as its quote, though 3 lines fit without only: quote: '' reads them"],
            id="quotes that quote nothing",
        ),
        pytest.param(
            "id,name\n1,ä\n".encode(),
            {"encoding": "cp1252"},
            ["in.csv is read with cp1252 as declared, though its text is UTF-8"],
            id="an encoding that is not its own",
        ),
        pytest.param(b"id,name\n", {}, ["in.csv has a header and no records"], id="header only"),
        pytest.param(
            "id,näme\n1,ä\n".encode("utf-16"),
            {},
            ["in.csv is read with utf-16 by its byte order mark"],
            id="byte order mark",
        ),
        pytest.param(
            b"id,name\r1,a\r", {}, ["in.csv is read with lines that end in carriage returns"], id="carriage returns"
        ),
    ],
)
def test_what_was_found_out_is_told_once(data: bytes, options: Any, notices: list[str], inbox: Inbox) -> None:
    inbox.read(data, **options)
    assert inbox.notices == notices
    inbox.read(data, **options)
    assert inbox.notices == []


def test_one_stray_quote_switches_no_quoting_off(inbox: Inbox) -> None:
    lines = [f'{number};"x;{number}"' for number in range(1, 60)]
    lines[0] = '1;"a'
    parcels = inbox.read("\n".join(["id;name", *lines]).encode())
    assert values_of(parcels) == [(str(number), f"x;{number}") for number in range(2, 60)]
    assert letters_of(parcels, "line, reason") == [(2, "broken_quote")]


def test_without_a_header_no_line_is_taken_for_one(inbox: Inbox) -> None:
    parcels = inbox.read(b"1,a\nid,name\n2,b\n", columns=["id", "name"], header=False)
    assert values_of(parcels) == [("1", "a"), ("id", "name"), ("2", "b")]


def test_ragged_lines_hide_no_delimiter(inbox: Inbox) -> None:
    parcels = inbox.read(b"a;b;c\n1;2;3\n4;5\n6;7;8\n9;10;11;12\n")
    assert values_of(parcels) == [("1", "2", "3"), ("6", "7", "8")]
    assert letters_of(parcels, "line, reason") == [(3, "ragged_line"), (5, "ragged_line")]


def test_a_head_that_later_shows_another_dialect_is_read_anew(inbox: Inbox) -> None:
    assert values_of(inbox.read(b"1,a\n")) == []
    parcels = inbox.read(b"1,a\n2,b\n3,c\n")
    assert values_of(parcels) == [("1", "a"), ("2", "b"), ("3", "c")]
    assert parcels[0].loads[0].start_bytes == 0
    assert "shows another dialect than before" in inbox.notices[0]
    assert values_of(inbox.read(b"1,a\n2,b\n3,c\n4,d\n")) == [("4", "d")]


# --- header


@pytest.mark.parametrize(
    ("data", "notice"),
    [
        pytest.param(b"", "in.csv is empty", id="zero bytes"),
        pytest.param(b"\n", "in.csv holds only blank lines", id="a newline"),
        pytest.param(b"\r\n\n \n", "in.csv holds only blank lines", id="blank lines"),
        pytest.param(codecs.BOM_UTF8, "in.csv holds only blank lines", id="a byte order mark"),
        pytest.param(codecs.BOM_UTF16_LE, "in.csv is empty", id="a byte order mark of UTF-16"),
    ],
)
def test_a_file_without_text_gives_nothing_and_is_told(data: bytes, notice: str, inbox: Inbox) -> None:
    assert inbox.read(data) == []
    assert inbox.notices == [notice]
    assert values_of(inbox.read(data + "id,name\n1,a\n".encode("utf-16-le" if b"\xff" in data else "utf-8"))) == [
        ("1", "a")
    ]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        pytest.param(b"<!DOCTYPE html>\n<p>Moved</p>\n", {}, "web page", id="web page"),
        pytest.param(
            b"error,code\nlogin,401\n", {"columns": ["id", "email"]}, "none of the columns", id="other columns"
        ),
        pytest.param(
            b"a,b\nlogin,401\n", {"columns": ["id", "email"], "header": True}, "none of the columns", id="set"
        ),
        pytest.param(b"Ann,x\nBob,y\n", {"columns": ["id", "email"]}, "set header: false", id="all text"),
        pytest.param(b"x" * 3_000_000, {}, "does not end within 1 MB", id="one long line"),
        pytest.param(b"," * 20_000 + b"\n", {}, "more than 16384 columns", id="too many columns"),
        pytest.param(b"# only\n# comments\n", {}, "blank or comment lines", id="comments"),
    ],
)
def test_a_file_that_shows_no_table_is_one_dead_letter(data: bytes, options: Any, message: str, inbox: Inbox) -> None:
    (parcel,) = inbox.read(data, **options)
    ((line, reason, told),) = letters_of([parcel])
    assert (line, reason) == (1, "unreadable_file")
    assert message in told
    assert parcel.dead_letters is not None
    assert parcel.dead_letters["byte_length"].to_pylist() == [len(data)]
    assert inbox.read(data, **options) == []
    assert len(inbox.read(data + b"1,2\n", **options)) == 1, "a file that grew is judged as a whole again"


def test_a_line_without_end_takes_little_memory(inbox: Inbox) -> None:
    with inbox.path.open("wb") as file:
        file.truncate(1 << 28)  # NUL bytes that take no room on the disk
    tracemalloc.start()
    try:
        (parcel,) = inbox.read()
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert parcel.loads[0].position_bytes == 1 << 28
    assert "does not end within 1 MB" in letters_of([parcel])[0][2]


def test_headings_never_meet_the_columns_of_the_lineage(inbox: Inbox) -> None:
    parcels = inbox.read(b"_line,_source,_load_id,_content_hash\n1,2,3,4\n")
    assert columns_of(parcels) == ["line", "source", "load_id", "content_hash"]
    assert values_of(parcels) == [("1", "2", "3", "4")]


def test_headings_in_every_spelling_give_each_column_its_values(inbox: Inbox) -> None:
    headings = ["ID", "id", "Id ", "select", 'x"; drop table t; --', "two\nlines", "имя", "名前", "", "a b", "a-b"]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([headings, [str(number) for number in range(len(headings))]])
    parcels = inbox.read(text.getvalue().encode())
    assert columns_of(parcels) == [
        *("id", "id_2", "id_3", "select", "x_drop_table_t", "two_lines", "имя", "名前", "column_9", "a_b", "a_b_2")
    ]
    assert values_of(parcels) == [tuple(str(number) for number in range(len(headings)))]


def test_a_long_heading_is_cut_alike_in_every_file() -> None:
    long, other = "x" * 10_000, "x" * 9_999 + "y"
    first, second = raw_columns([long, other]), raw_columns([other, long, long])
    assert second[:2] == first[::-1]
    assert len(set(second)) == 3
    assert all(len(name.encode()) <= LONGEST_NAME for name in [*second, *raw_columns(["漢" * 100] * 12)])


def test_five_thousand_columns_are_read(inbox: Inbox) -> None:
    header = ";".join(f"c{number}" for number in range(5000))
    rows = "\n".join(";".join([str(row)] * 5000) for row in range(20))
    parcels = inbox.read(f"{header}\n{rows}\n".encode())
    assert values_of(parcels) == [(str(row),) * 5000 for row in range(20)]


def test_a_delimiter_of_two_characters_is_found_in_the_header_whatever_else_is_there() -> None:
    head = 'id||"a||b"||\x1f\ue000\n1||2||3\n'.encode()
    dialect = find_dialect(head, CsvSource(type="csv", path="*.csv", delimiter="||"))
    assert dialect.headings == ("id", "a||b", "\x1f\ue000")


def test_a_byte_of_another_encoding_in_a_heading_stays_visible(inbox: Inbox) -> None:
    parcels = inbox.read("id,größe\n1,2\n".encode("cp1252"))
    assert columns_of(parcels) == ["id", "gr_xf6_xdfe"]


# --- encodings

_TEXT = "id;name;größe\n1;Ångström;5\n2;naïve;6\n"


@pytest.mark.parametrize(
    ("encoding", "mark", "declared"),
    [
        pytest.param("utf-8", codecs.BOM_UTF8, None, id="UTF-8 with a mark"),
        pytest.param("utf-16-le", codecs.BOM_UTF16_LE, None, id="UTF-16 LE with a mark"),
        pytest.param("utf-16-be", codecs.BOM_UTF16_BE, None, id="UTF-16 BE with a mark"),
        pytest.param("utf-32-le", codecs.BOM_UTF32_LE, None, id="UTF-32 LE with a mark"),
        pytest.param("utf-32-be", codecs.BOM_UTF32_BE, None, id="UTF-32 BE with a mark"),
        pytest.param("utf-16-le", b"", None, id="UTF-16 LE without a mark"),
        pytest.param("utf-16-be", b"", None, id="UTF-16 BE without a mark"),
        pytest.param("cp1252", b"", "cp1252", id="cp1252"),
        pytest.param("latin-1", b"", "ISO-8859-1", id="Latin-1"),
        pytest.param("utf-16-le", codecs.BOM_UTF16_LE, "UTF-16", id="UTF-16 declared"),
        pytest.param("utf-16-le", codecs.BOM_UTF16_LE, "utf-16-le", id="UTF-16 LE declared and marked"),
        pytest.param("utf-8", codecs.BOM_UTF8, "cp1252", id="a mark against what is declared"),
        pytest.param("cp437", b"", "cp437", id="the code page of DOS"),
    ],
)
def test_every_encoding_becomes_the_same_text(encoding: str, mark: bytes, declared: str | None, inbox: Inbox) -> None:
    parcels = inbox.read(mark + _TEXT.encode(encoding), encoding=declared)
    assert columns_of(parcels) == ["id", "name", "größe"]
    assert values_of(parcels) == [("1", "Ångström", "5"), ("2", "naïve", "6")]
    grown = mark + (_TEXT + "3;été;7\n").encode(encoding)
    assert values_of(inbox.read(grown, encoding=declared)) == [("3", "été", "7")]
    assert inbox.read(grown, encoding=declared) == []


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "euc_kr", "big5", "utf-7", "iso2022_jp"])
def test_text_of_many_bytes_a_letter_is_read_over_block_ends(encoding: str, inbox: Inbox) -> None:
    letter = "한" if encoding == "euc_kr" else "本"
    text = "id,name\n" + "".join(f"{number},{letter * (number % 7)}x\n" for number in range(120_000))
    parcels = inbox.read(text.encode(encoding), encoding=encoding)
    assert values_of(parcels) == [(str(number), letter * (number % 7) + "x") for number in range(120_000)]


def test_line_ends_of_an_old_mac_are_read_in_any_encoding_and_when_they_grow(inbox: Inbox) -> None:
    text = "id,näme\r" + "".join(f"{number},é\r" for number in range(100_000))
    assert len(values_of(inbox.read(text.encode("utf-16")))) == 100_000
    assert values_of(inbox.read((text + "x,ü\r").encode("utf-16"))) == [("x", "ü")]


def test_bytes_that_are_no_text_in_the_declared_encoding_set_their_line_aside(inbox: Inbox) -> None:
    data = b"id,name\n1,caf\xe9\n2,x\x81y\n3,z\n"
    parcels = inbox.read(data, encoding="cp1252")
    assert values_of(parcels) == [("1", "café"), ("3", "z")]
    message = "\\x81 is no text in cp1252; mend the line, or encoding in penstock.yml"
    assert letters_of(parcels) == [(3, "not_utf8", message)]


def test_a_utf16_file_that_breaks_off_inside_a_letter_loses_its_last_line_only(inbox: Inbox) -> None:
    data = "id,name\n1,a\n2,b\n".encode("utf-16")
    parcels = inbox.read(data[:-3])
    assert values_of(parcels) == [("1", "a")]
    assert letters_of(parcels, "line, reason") == [(3, "not_utf8")]
    assert values_of(inbox.read(data)) == [("1", "a"), ("2", "b")]


def test_lines_of_another_encoding_are_set_aside_with_a_hint(inbox: Inbox) -> None:
    data = "id,name\n1,né\n".encode() + "2,né\n3,“x”\n".encode("cp1252") + b"4,z\n"
    parcels = inbox.read(data)
    assert values_of(parcels) == [("1", "né"), ("4", "z")]
    assert [line for line, _, _ in letters_of(parcels)] == [3, 4]
    assert all("set encoding: cp1252" in message for _, _, message in letters_of(parcels))


def test_lines_that_are_no_text_at_all_get_no_hint(inbox: Inbox) -> None:
    parcels = inbox.read(b"id,name\n1,\x81\x8d\n2,\x90\x01\n3,a\n")
    assert [line for line, _, _ in letters_of(parcels)] == [2, 3]
    assert not any("cp1252" in message for _, _, message in letters_of(parcels))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("data", [b"\0", b"a\0", b"\0\n\0"])
def test_a_file_of_hardly_a_byte_is_accounted_for_without_a_warning(inbox: Inbox, data: bytes) -> None:
    parcels = inbox.read(data)
    assert sum(parcel.count("dead_lettered") for parcel in parcels) == sum(parcel.count("read") for parcel in parcels)


def test_a_nul_byte_makes_no_utf16(inbox: Inbox) -> None:
    parcels = inbox.read(b"id,name\n1,a\0\n2,b\n")
    assert values_of(parcels) == [("2", "b")]
    assert [line for line, _, _ in letters_of(parcels)] == [2]


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "cp125"},
        {"encoding": "hex"},
        {"encoding": "undefined"},
        {"delimiter": "\n"},
        {"delimiter": "本本"},
        {"quote": "«"},
        {"quote": ";", "delimiter": ";"},
    ],
)
def test_settings_that_no_file_can_have_are_refused(options: Any) -> None:
    with pytest.raises(ValidationError):
        CsvSource(type="csv", path="*.csv", **options)


def test_an_unknown_encoding_is_told_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "penstock.yml").write_text(
        "sources:\n  hr__people:\n    type: csv\n    path: x.csv\n    encoding: cp125\n"
    )
    with pytest.raises(ConfigError, match=r"sources\.hr__people\.encoding is 'cp125' .*line 5.*no text encoding"):
        load_settings(tmp_path, {})


# --- columns that are gone


def test_freeze_loads_nothing_of_a_file_whose_columns_are_gone(inbox: Inbox) -> None:
    with pytest.raises(SourceError, match=r"columns gone: name.*in\.csv"):
        inbox.read(b"id,other\n1,a\n", columns=["id", "name"], schema_drift="freeze")
    with pytest.raises(SourceError, match="columns gone: email"):
        inbox.read(b"id,name\n1,a\n", expected=["id", "email"], schema_drift="freeze")
    assert values_of(inbox.read(b"id,more,name\n1,a,b\n", columns=["id", "name"], schema_drift="freeze"))


def test_dead_letter_sets_every_record_of_such_a_file_aside(inbox: Inbox) -> None:
    data = b'id,other\n1,a\n\n2,"b\nc"\n3,d\n'
    options: dict[str, Any] = {"columns": ["id", "name"], "schema_drift": "dead_letter"}
    (parcel,) = inbox.read(data, **options)
    assert letters_of([parcel]) == [(line, "schema_drift", "columns gone: name") for line in (2, 4, 6)]
    assert (parcel.count("read"), parcel.count("skipped"), parcel.rows) == (4, 1, None)
    assert inbox.notices == ["in.csv: columns gone: name; its records are dead letters"]
    assert inbox.read(data, **options) == []
    assert [line for line, _, _ in letters_of(inbox.read(data + b"4,e\n", **options))] == [7]


def test_a_stray_quote_among_such_records_hides_none(inbox: Inbox) -> None:
    body = b'1,"a\n' + b"".join(b"%d,x\n" % number for number in range(2, 200))
    (parcel,) = inbox.read(b"id,other\n" + body, columns=["id", "name"], schema_drift="dead_letter")
    assert [line for line, _, _ in letters_of([parcel])] == list(range(2, 201))


def test_evolve_loads_what_is_there(inbox: Inbox) -> None:
    parcels = inbox.read(b"id,other\n1,a\n", columns=["id", "name"])
    assert (columns_of(parcels), values_of(parcels)) == (["id", "other"], [("1", "a")])


# --- whatever a writer writes

_VALUE = st.text(st.sampled_from("ab1 ,;|\t'\"\n-é漢"), max_size=8)
_TABLE = st.lists(st.tuples(_VALUE, _VALUE, _VALUE), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_TABLE, st.sampled_from([",", ";", "\t", "|", "\x01", ":", "^", "~"]), st.booleans(), st.booleans())
def test_whatever_a_writer_writes_under_declared_columns_comes_back(
    inbox: Inbox, table: list[tuple[str, str, str]], delimiter: str, all_quoted: bool, is_set: bool
) -> None:
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerows([("id", "name", "note"), *table])
    options: dict[str, Any] = {"delimiter": delimiter, "quote": '"', "header": True} if is_set else {}
    parcels = inbox.forget().read(text.getvalue().encode(), columns=["id", "name", "note"], **options)
    assert letters_of(parcels) == []
    assert [tuple(value or "" for value in row) for row in values_of(parcels)] == table


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_TABLE, st.sampled_from([",", ";", "\t", "|", "||"]), st.sampled_from(['"', "'"]), st.sampled_from(["", "\\"]))
def test_whatever_a_writer_writes_comes_back_when_all_is_set(
    inbox: Inbox, table: list[tuple[str, str, str]], delimiter: str, quote: str, escape: str
) -> None:
    def written(value: str) -> str:
        return quote + value.replace(quote, (escape or quote) + quote) + quote

    text = "".join(delimiter.join(map(written, row)) + "\n" for row in [("id", "name", "note"), *table])
    options = {"delimiter": delimiter, "quote": quote, "escape": escape or None, "header": True}
    parcels = inbox.forget().read(text.encode(), **options)
    assert letters_of(parcels) == []
    assert values_of(parcels) == table


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(st.sampled_from("a1,;|\t'\"\n\r#\\: "), max_size=200).map(str.encode))
def test_the_judge_is_deterministic_and_fails_in_one_way_only(head: bytes) -> None:
    source = CsvSource(type="csv", path="*.csv")
    try:
        first = find_dialect(head, source)
    except NoTableError:
        return
    assert first == find_dialect(head, source)
    assert first.header_bytes <= len(head)
    assert len(first.columns) == len(set(first.columns)) > 0
    assert first.quote in ('"', "'")
