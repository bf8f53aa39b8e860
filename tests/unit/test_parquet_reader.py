"""Parquet files into parcels: every value as exact text, every row known by the file's hash and its number."""

import datetime
import hashlib
import json
import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.errors import SourceError
from foundation.sources import ParquetSource
from ingestion.parcels import Batch, Parcel
from ingestion.readers.framing import KnownPrefix
from ingestion.readers.parquet_files import files as parquet_files
from ingestion.readers.parquet_files.files import read_parquet_file
from ingestion.stores import StoredFile
from tests.arrow import fetch, known_after, letters_of, rows_of

SOURCE = ParquetSource(type="parquet", path="*.parquet")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "input.parquet"


def read(path: Path, batch: Batch, known: KnownPrefix | None = None, notices: list[str] | None = None) -> list[Parcel]:
    notice = ([] if notices is None else notices).append
    return list(read_parquet_file(StoredFile(path, path.name), "hr__employees", SOURCE, known, batch, notice))


def texts(array: pa.Array, path: Path, batch: Batch) -> list[Any]:
    """What raw holds of these values."""
    pq.write_table(pa.table({"value": array}), path)
    parcels = read(path, batch)
    assert not letters_of(parcels)
    return [row[1] for row in rows_of(parcels)]


def moment(text: str) -> int:
    """Nanoseconds since 1970 of a moment with nine digits of its second."""
    whole, fraction = text.split(".")
    return int(datetime.datetime.fromisoformat(whole + "+00:00").timestamp()) * 10**9 + int(fraction)


NANOSECONDS = moment("2020-02-29T23:59:59.123456789")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([2**64 - 1, 0, None], pa.uint64()), ["18446744073709551615", "0", None]),
        (pa.array([-(2**63), 2**63 - 1]), ["-9223372036854775808", "9223372036854775807"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([Decimal("1.10"), Decimal("-0.01")], pa.decimal128(20, 2)), ["1.10", "-0.01"]),
        (pa.array([Decimal("9" * 35 + ".125")], pa.decimal128(38, 3)), ["9" * 35 + ".125"]),
        (pa.array([Decimal("9" * 58 + ".12")], pa.decimal256(60, 2)), ["9" * 58 + ".12"]),
        (pa.array([0.1, 1e300, math.nan, math.inf, -math.inf]), ["0.1", "1e+300", "nan", "inf", "-inf"]),
        (pa.array([0.1, 16777216.0], pa.float32()), ["0.1", "16777216.0"]),
        (pa.array([1.5, 0.25], pa.float16()), ["1.5", "0.25"]),
        (pa.array([datetime.date(2020, 2, 29), datetime.date(1, 1, 1)]), ["2020-02-29", "0001-01-01"]),
        (pa.array([NANOSECONDS // 1000], pa.timestamp("us")), ["2020-02-29T23:59:59.123456"]),
        (pa.array([NANOSECONDS], pa.timestamp("ns")), ["2020-02-29T23:59:59.123456789"]),
        (pa.array([0], pa.timestamp("ms")), ["1970-01-01T00:00:00"]),
        (pa.array([253402300799000], pa.timestamp("ms", "UTC")), ["9999-12-31T23:59:59+00:00"]),
        (pa.array([NANOSECONDS // 1000], pa.timestamp("us", "Asia/Tokyo")), ["2020-02-29T23:59:59.123456+00:00"]),
        (pa.array([NANOSECONDS], pa.timestamp("ns", "Asia/Tokyo")), ["2020-02-29T23:59:59.123456789+00:00"]),
        (pa.array([86_399_123_456_789], pa.time64("ns")), ["23:59:59.123456789"]),
        (pa.array([86_399_123_456], pa.time64("us")), ["23:59:59.123456"]),
        (pa.array([b"\x00\xfe a", b"", None]), ["\\x00fe2061", "\\x", None]),
        (pa.array([b"ab"], pa.binary(2)), ["\\x6162"]),
        (pa.array(["", " a,'\"\n", "größe", None]), ["", " a,'\"\n", "größe", None]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([None, None]), [None, None]),
        (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), ["00000000-0000-0000-0000-000000000005"]),
        (pa.array([90_000_000], pa.duration("us")), ["90000000"]),
        (pa.array([[1, None], [], None], pa.list_(pa.uint64())), ["[1,null]", "[]", None]),
        (pa.array([[Decimal("1.10")]], pa.list_(pa.decimal128(38, 2))), ["[1.10]"]),
        (pa.array([[Decimal("9" * 50)]], pa.list_(pa.decimal256(60, 0))), [f'["{"9" * 50}"]']),
        (pa.array([{"a": {"b": 'x"y'}}, None]), ['{"a":{"b":"x\\"y"}}', None]),
        (pa.array([[("k", 1.5), ("j", None)]], pa.map_(pa.string(), pa.float64())), ['{"k":1.5,"j":null}']),
        (
            pa.array([{"at": NANOSECONDS}], pa.struct([("at", pa.timestamp("ns", "Asia/Tokyo"))])),
            ['{"at":"2020-02-29 23:59:59.123456789Z"}'],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_value_is_kept_exactly(array: pa.Array, expected: list[Any], path: Path, batch: Batch) -> None:
    assert texts(array, path, batch) == expected


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    doubles=st.lists(st.floats(allow_nan=False), min_size=1, max_size=50),
    words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=50),
)
def test_floats_and_text_come_back_as_they_were(
    doubles: list[float], words: list[str], path: Path, batch: Batch
) -> None:
    assert [float(text) for text in texts(pa.array(doubles), path, batch)] == doubles
    assert texts(pa.array(words, pa.string()), path, batch) == words


def test_rows_carry_their_number_and_their_lineage(path: Path, batch: Batch) -> None:
    pq.write_table(pa.table({"joinDate": ["a", "b"]}), path)
    (parcel,) = read(path, batch)
    (load,) = parcel.loads
    content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    assert fetch(
        parcel.rows,
        "select join_date, _line, _location, _content_hash, _load_id, _loaded_at at time zone 'UTC' from found",
    ) == [
        (
            *row,
            "input.parquet",
            content_hash,
            load.load_id,
            datetime.datetime(2026, 1, 2),
        )
        for row in (("a", 1), ("b", 2))
    ]
    assert (load.content_hash, load.start_bytes, load.position_bytes, load.lines) == (
        content_hash,
        0,
        path.stat().st_size,
        2,
    )
    assert (load.records_read, load.records_loaded, load.kind) == (2, 2, "parquet")
    assert json.loads(load.fields or "") == {"join_date": ["string"]}
    assert list(batch.folder.iterdir()) == [], "the copy is gone"


def test_columns_of_the_same_name_are_kept_apart_and_told(path: Path, batch: Batch) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["Id", "ID", ""]), path)
    notices: list[str] = []
    parcels = read(path, batch, notices=notices)
    assert parcels[0].row_columns == ["id", "id_2", "column_3"]
    assert rows_of(parcels) == [(1, "1", "2", "3")]
    assert "id_2, column_3" in notices[0]


def numbered(path: Path, rows: int, group: int) -> pa.Table:
    table = pa.table({"number": range(rows), "text": [f"text {number}" for number in range(rows)]})
    pq.write_table(table, path, row_group_size=group)
    return table


@pytest.mark.parametrize("group", [700, 10_000, 50_000])
def test_a_long_file_is_cut_into_parcels_and_read_on_behind_each(
    group: int, path: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "PARCEL_ROWS", 9_000)
    numbered(path, 40_000, group)
    parcels = read(path, batch)
    assert len(parcels) >= 3
    expected = [(number + 1, str(number), f"text {number}") for number in range(40_000)]
    assert rows_of(parcels) == expected
    loads = [parcel.loads[0] for parcel in parcels]
    assert [load.start_bytes for load in loads] == [0, *(load.position_bytes for load in loads[:-1])]
    assert 0 not in [load.position_bytes for load in loads]
    assert loads[-1].position_bytes == path.stat().st_size
    for done in range(1, len(parcels)):
        rest = read(path, batch, known_after(parcels[:done]))
        assert rows_of(rest) == expected[loads[done - 1].lines :]
        assert rest[0].loads[0].start_bytes == loads[done - 1].position_bytes
    assert read(path, batch, known_after(parcels)) == []


def test_parcels_of_wide_rows_are_bounded_by_their_bytes(
    path: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "PARCEL_BYTES", 1_000_000)
    pq.write_table(pa.table({"text": ["x" * 1_000] * 30_000}), path)
    assert [parcel.count("loaded") for parcel in read(path, batch)] == [8_192, 8_192, 8_192, 5_424]


def test_a_changed_file_is_a_new_version(path: Path, batch: Batch) -> None:
    numbered(path, 10, 10)
    before = read(path, batch)
    numbered(path, 11, 10)
    after = read(path, batch, known_after(before))
    assert len(rows_of(after)) == 11
    assert after[0].loads[0].start_bytes == 0
    assert after[0].loads[0].content_hash != before[0].loads[0].content_hash


def test_a_file_without_rows_is_read_once_and_takes_the_place_of_the_one_before(path: Path, batch: Batch) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    (parcel,) = parcels = read(path, batch)
    assert (parcel.rows, parcel.count("read"), parcel.loads[0].position_bytes) == (None, 0, path.stat().st_size)
    assert read(path, batch, known_after(parcels)) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda _: b"", "the file is empty", id="empty"),
        pytest.param(lambda data: data[: len(data) // 2], "no Parquet that can be read", id="cut"),
        pytest.param(lambda data: data[:-1], "no Parquet that can be read", id="last byte gone"),
        pytest.param(lambda _: b"id,name\n1,a\n" * 100, "magic bytes not found", id="a CSV"),
        pytest.param(lambda data: data[:-4] + b"PARE", "encrypt", id="encrypted"),
        pytest.param(lambda data: data[:-200] + bytes(180) + data[-20:], "no Parquet that can be read", id="footer"),
    ],
)
def test_a_file_that_is_no_parquet_is_one_dead_letter_and_not_asked_again(
    spoil: Any, message: str, path: Path, batch: Batch
) -> None:
    numbered(path, 1_000, 100)
    path.write_bytes(spoil(path.read_bytes()))
    parcels = read(path, batch)
    ((line, reason, told),) = letters_of(parcels)
    assert (line, reason) == (1, "unreadable_file")
    assert message in told
    assert "/" not in told.replace("and/or", "")
    if path.stat().st_size:
        assert read(path, batch, known_after(parcels)) == []


def test_of_a_file_with_a_damaged_row_group_the_others_are_read(path: Path, batch: Batch) -> None:
    pq.write_table(
        pa.table({"number": range(30_000)}),
        path,
        row_group_size=10_000,
        write_page_checksum=True,
        use_dictionary=False,
        compression="none",
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    parcels = read(path, batch)
    lines = [row[0] for row in rows_of(parcels)]
    ((line, reason, message),) = letters_of(parcels)
    assert reason == "unreadable_rows"
    assert "to 20,000 cannot be read" in message
    assert lines == [*range(1, line), *range(20_001, 30_001)]
    assert 10_001 <= line <= 20_000
    assert known_after(parcels).lines == 30_000


def test_text_that_no_database_takes_is_set_aside_row_by_row(path: Path, batch: Batch) -> None:
    words = [b"good", b"n\0ul", "größe".encode(), b"bad \xff", b"", b"\xc3", b"\xa9", None, b"last", b"\xa9"]
    values = pa.array(words, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": range(10), "word": values}), path)
    parcels = read(path, batch)
    assert rows_of(parcels) == [
        (1, "0", "good"),
        (3, "2", "größe"),
        (5, "4", ""),
        (8, "7", None),
        (9, "8", "last"),
    ]
    assert letters_of(parcels, "line, reason") == [
        (2, "not_utf8"),
        (4, "not_utf8"),
        (6, "not_utf8"),
        (7, "not_utf8"),
        (10, "not_utf8"),
    ]
    assert parcels[0].count("read") == 10
    assert letters_of(parcels, "line, record")[1][1] == "{'id': 3, 'word': 'bad \\\\xff'}"


def test_rows_that_have_no_text_are_set_aside_in_a_short_stretch(
    path: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "SMALLEST_STRETCH", 10)
    maps = [[("key", number)] for number in range(1_000)]
    maps[700] = [("key", 1), ("key", 2)]  # which a map may not hold
    pq.write_table(pa.table({"map": pa.array(maps, pa.map_(pa.string(), pa.int64()))}), path)
    parcels = read(path, batch)
    ((first, reason, message),) = letters_of(parcels)
    assert reason == "unreadable_rows"
    assert "duplicate key" in message
    lost = 1_000 - len(rows_of(parcels))
    assert 0 < lost < 20
    assert first <= 701 < first + lost
    assert known_after(parcels).lines == 1_000


def test_a_file_that_is_not_there_is_told(path: Path, batch: Batch) -> None:
    with pytest.raises(SourceError, match="No such file"):
        read(path, batch)
    assert list(batch.folder.iterdir()) == []
