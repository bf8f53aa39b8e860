"""CSV files into parcels: every physical record is loaded, dead-lettered or skipped, with its line and its bytes."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.sources import CsvSource
from ingestion.parcels import Batch, Parcel
from ingestion.readers.csv_files.files import read_csv_file
from ingestion.readers.framing import KnownPrefix, read_chunks
from ingestion.stores import StoredFile
from tests.arrow import known_after, letters_of, rows_of

FIXTURES = Path(__file__).parent.parent / "fixtures" / "hr__employees"
SOURCE = CsvSource(type="csv", path="*.csv")
PLACE = "line, reason, byte_offset, byte_length"


def read(
    path: Path,
    batch: Batch,
    source: CsvSource = SOURCE,
    known: KnownPrefix | None = None,
    notices: list[str] | None = None,
) -> list[Parcel]:
    notices = [] if notices is None else notices
    return list(read_csv_file(StoredFile(path, path.name), "hr__employees", source, known, batch, notices.append))


def read_bytes(data: bytes, batch: Batch, **options: Any) -> list[Parcel]:
    path = batch.folder.parent / "input.csv"
    path.write_bytes(data)
    return read(path, batch, **options)


@pytest.mark.parametrize(
    ("body", "rows", "letters"),
    [
        pytest.param(b"1,a\n2,b\n", [(2, "1", "a"), (3, "2", "b")], [], id="clean"),
        pytest.param(b"1,a\n2,b", [(2, "1", "a"), (3, "2", "b")], [], id="no final newline"),
        pytest.param(b"1,a\r\n2,b\r\n", [(2, "1", "a"), (3, "2", "b")], [], id="windows line ends"),
        pytest.param(b"1,a\n2,b\r\n3,c\n", [(2, "1", "a"), (3, "2", "b"), (4, "3", "c")], [], id="mixed line ends"),
        pytest.param(b'1,"a\n\nb"\n2,c\n', [(2, "1", "a\n\nb"), (5, "2", "c")], [], id="line ends in a field"),
        pytest.param(b'1,""\n2,\n', [(2, "1", ""), (3, "2", None)], [], id="empty text is not null"),
        pytest.param(b'1,5" pipe\n2,c\n', [(2, "1", '5" pipe'), (3, "2", "c")], [], id="a quote inside a bare field"),
        pytest.param(
            b"1,a\n2\n3,c\n", [(2, "1", "a"), (4, "3", "c")], [(3, "ragged_line", 12, 1)], id="too few fields"
        ),
        pytest.param(b"1,a,b\n3,c\n", [(3, "3", "c")], [(2, "ragged_line", 8, 5)], id="too many fields"),
        pytest.param(b"1,a,,\n3,c\n", [(3, "3", "c")], [(2, "ragged_line", 8, 5)], id="empty fields too many"),
        pytest.param(
            b'1,"a\n2,b\n3,"c"\n4,d\n',
            [(3, "2", "b"), (4, "3", "c"), (5, "4", "d")],
            [(2, "broken_quote", 8, 4)],
            id="a stray quote takes its own line alone",
        ),
        pytest.param(b'1,a\n2,"b\n', [(2, "1", "a")], [(3, "broken_quote", 12, 4)], id="a quote open at the end"),
        pytest.param(
            b"1,a\n2,\xe9\n3,c\n", [(2, "1", "a"), (4, "3", "c")], [(3, "not_utf8", 12, 3)], id="a Latin-1 byte"
        ),
        pytest.param(b"1,a\0b\n3,c\n", [(3, "3", "c")], [(2, "not_utf8", 8, 5)], id="a NUL byte"),
        pytest.param(
            b'1,"x\ny",z\n3,c\n', [(4, "3", "c")], [(2, "ragged_line", 8, 9)], id="a ragged record over two lines"
        ),
        pytest.param(
            b'1,a\n2,"oops\n3,c\n4,d\n',
            [(2, "1", "a"), (4, "3", "c"), (5, "4", "d")],
            [(3, "broken_quote", 12, 7)],
            id="a quote that nothing closes costs its neighbours nothing",
        ),
        pytest.param(
            b'1,"a\n' + b"2,b\n" * 30 + b'3,"c"\n4",d\n5,e\n',
            [*((line, "2", "b") for line in range(3, 33)), (33, "3", "c"), (34, '4"', "d"), (35, "5", "e")],
            [(2, "broken_quote", 8, 4)],
            id="a stray quote that another one far on would close",
        ),
        pytest.param(
            b'1,"a\n' + b"b\n" * 30 + b'c"\n2,d\n',
            [(2, "1", "a\n" + "b\n" * 30 + "c"), (34, "2", "d")],
            [],
            id="a record of many lines",
        ),
        pytest.param(
            b'1,"a\nb"\n2,"oops\n3,"c\nd"\n4,"e\n\xff\nf"\n5,g\n',
            [(2, "1", "a\nb"), (5, "3", "c\nd"), (10, "5", "g")],
            [(4, "broken_quote", 16, 7), (7, "torn_record", 32, 4), (8, "not_utf8", 37, 1), (9, "torn_record", 39, 2)],
            id="records of several lines between broken ones",
        ),
        pytest.param(
            b'1 "a",b "c,"d\n2,x\n3,5" pipe\n4,"y\n',
            [(3, "2", "x"), (4, "3", '5" pipe')],
            [(2, "broken_quote", 8, 13), (5, "broken_quote", 36, 4)],
            id="doubtful lines are not joined over others",
        ),
        pytest.param(b"", [], [], id="header only"),
    ],
)
def test_every_line_ends_in_one_place(
    body: bytes, rows: list[tuple[Any, ...]], letters: list[tuple[Any, ...]], batch: Batch
) -> None:
    parcels = read_bytes(b"id,name\n" + body, batch)
    assert rows_of(parcels) == rows
    assert letters_of(parcels, PLACE) == letters


def test_blank_lines_are_skipped_and_counted(batch: Batch) -> None:
    (parcel,) = read_bytes(b"id,name\n1,a\n\n2,b\n\r\n", batch)
    assert rows_of([parcel]) == [(2, "1", "a"), (4, "2", "b")]
    assert (parcel.count("read"), parcel.loads[0].records_skipped) == (4, 2)


def test_a_byte_order_mark_is_no_part_of_the_first_heading(batch: Batch) -> None:
    (parcel,) = read_bytes(b"\xef\xbb\xbfid,name\n1,a\n", batch)
    assert list(parcel.row_columns) == ["id", "name"]
    assert rows_of([parcel]) == [(2, "1", "a")]


def test_a_zero_byte_file_gives_nothing(batch: Batch) -> None:
    assert read_bytes(b"", batch) == []


def test_a_web_page_is_one_dead_letter(batch: Batch) -> None:
    parcels = read_bytes(b"<!DOCTYPE html>\n<p>Moved</p>\n", batch)
    assert letters_of(parcels, PLACE) == [(1, "unreadable_file", 0, 29)]
    assert rows_of(parcels) == []


def test_a_header_without_any_declared_column_is_one_dead_letter(batch: Batch) -> None:
    source = CsvSource(type="csv", path="*.csv", columns=["id", "email"])
    parcels = read_bytes(b"error,code\nlogin needed,401\n", batch, source=source)
    assert [letter[1] for letter in letters_of(parcels)] == ["unreadable_file"]


def test_headings_met_twice_or_empty_keep_their_values(batch: Batch) -> None:
    notices: list[str] = []
    (parcel,) = read_bytes(b"ID,id,\n1,2,3\n", batch, notices=notices)
    assert notices == ["input.csv: headings that are there twice or empty, kept as id_2, column_3"]
    assert list(parcel.row_columns) == ["id", "id_2", "column_3"]
    assert rows_of([parcel]) == [(2, "1", "2", "3")]


def test_hostile_headings_and_values_stay_text(batch: Batch) -> None:
    (parcel,) = read_bytes(b'id,"select","x\'); drop table t; --"\n1,\'; drop table t; --,""""\n', batch)
    assert list(parcel.row_columns) == ["id", "select", "x_drop_table_t"]
    assert rows_of([parcel]) == [(2, "1", "'; drop table t; --", '"')]


def test_another_dialect_is_read_as_declared(batch: Batch) -> None:
    source = CsvSource(type="csv", path="*.csv", delimiter=";", quote="'")
    (parcel,) = read_bytes(b"id;name\n1;'a;b'\n", batch, source=source)
    assert rows_of([parcel]) == [(2, "1", "a;b")]


def test_a_grown_file_gives_its_new_lines_only(batch: Batch) -> None:
    (first,) = read_bytes(b"id,name\n1,a\n", batch)
    (second,) = read_bytes(b"id,name\n1,a\n2,b\n", batch, known=known_after([first]))
    assert rows_of([second]) == [(3, "2", "b")]
    assert second.loads[0].lines == 3


def test_a_grown_file_whose_last_line_had_no_newline_gives_its_new_lines_only(batch: Batch) -> None:
    (first,) = read_bytes(b"id,name\n1,a", batch)
    (second,) = read_bytes(b"id,name\n1,a\n2,b\n", batch, known=known_after([first]))
    assert rows_of([second]) == [(3, "2", "b")]


def test_a_last_line_that_went_on_is_read_anew(batch: Batch) -> None:
    (first,) = read_bytes(b"id,name\n1,a", batch)
    (second,) = read_bytes(b"id,name\n1,ab\n", batch, known=known_after([first]))
    assert rows_of([second]) == [(2, "1", "ab")]


def test_an_unchanged_file_gives_nothing(batch: Batch) -> None:
    (first,) = read_bytes(b"id,name\n1,a\n", batch)
    assert read_bytes(b"id,name\n1,a\n", batch, known=known_after([first])) == []


def test_a_file_that_changed_in_its_head_is_read_anew(batch: Batch) -> None:
    (first,) = read_bytes(b"id,name\n1,a\n", batch)
    (second,) = read_bytes(b"id,name\n1,z\n2,b\n", batch, known=known_after([first]))
    assert rows_of([second]) == [(2, "1", "z"), (3, "2", "b")]


def test_a_file_larger_than_a_chunk_is_cut_between_records(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(read_chunks.__kwdefaults__, "chunk_bytes", 64)
    body = "".join(f'{number},"line one\nline two {number}"\n' for number in range(50))
    parcels = read_bytes(b"id,name\n" + body.encode(), batch)
    assert len(parcels) > 10
    assert rows_of(parcels) == [(2 + 2 * n, str(n), f"line one\nline two {n}") for n in range(50)]


def test_a_stray_quote_does_not_make_the_cut_fall_into_a_record(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(read_chunks.__kwdefaults__, "chunk_bytes", 100)
    wanted = [(3 + 2 * n, str(n), f"line one\nline two, of {n}") for n in range(50)]
    body = '0,"stray\n' + "".join(f'{number},"{text}"\n' for _, number, text in wanted)
    parcels = read_bytes(b"id,name\n" + body.encode(), batch)
    assert rows_of(parcels) == wanted
    assert letters_of(parcels, PLACE) == [(2, "broken_quote", 8, 8)]


_FIELD = st.text(st.sampled_from('ab,"\n\r \té漢\0'), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_FIELD, _FIELD, _FIELD), max_size=8))
def test_whatever_a_csv_writer_writes_comes_back(batch: Batch, records: list[tuple[str, str, str]]) -> None:
    wanted = [record for record in records if "\0" not in "".join(record) and "\r" not in "".join(record)]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(wanted)
    parcels = read_bytes(b"a,b,c\n" + text.getvalue().encode(), batch)
    assert [row[1:] for row in rows_of(parcels)] == wanted
    assert letters_of(parcels) == []


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"1", b"x", b",", b'"', b"\n", b"\r\n", b"\r", b"\xff", b"\0", b"\xc3\xa9", b" "])))
def test_whatever_the_bytes_are_each_one_is_accounted_for(batch: Batch, pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    header = b"a,b,c\n"
    parcels = read_bytes(header + body, batch)
    lines = body.split(b"\n")
    lines = lines[:-1] if lines[-1] == b"" else lines
    taken: list[int] = []
    for line, _, offset, length in letters_of(parcels, PLACE):
        text = (header + body)[offset : offset + length]
        taken += range(line, line + text.count(b"\n") + 1)
        assert (header + body)[:offset].count(b"\n") + 1 == line
    starts = [row[0] for row in rows_of(parcels)]
    blank = [number for number, line in enumerate(lines, start=2) if line in (b"", b"\r")]
    assert len(set(taken)) == len(taken)
    assert not set(taken) & set(starts)
    # Every line that is not blank begins a row, is in a dead letter, or goes on in a field of the row before it.
    for number in range(2, len(lines) + 2):
        if number not in taken and number not in starts and number not in blank:
            row = max(start for start in starts if start < number)
            values = next(found[1:] for found in rows_of(parcels) if found[0] == row)
            assert "\n" in "".join(value or "" for value in values)
    for parcel in parcels:
        load = parcel.loads[0]
        assert load.records_read == load.records_loaded + load.records_dead_lettered + load.records_skipped
