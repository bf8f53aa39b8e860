"""JSON files into parcels: a record keeps its text, and what is no JSON object goes to the dead letters."""

import gzip
import hashlib
import json
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.sources import JsonSource
from ingestion.parcels import DEAD_LETTER_SCHEMA, Batch, Parcel
from ingestion.readers.framing import KnownPrefix
from ingestion.readers.json_files import files as json_files
from ingestion.readers.json_files.files import read_json_file
from ingestion.readers.json_files.framing import LONGEST_RECORD
from ingestion.stores import StoredFile
from tests.arrow import fetch, known_after, letters_of, rows_of


def read(
    data: bytes, batch: Batch, known: KnownPrefix | None = None, form: Literal["auto", "array", "lines"] = "auto"
) -> list[Parcel]:
    path = batch.folder.parent / "input.json"
    path.write_bytes(data)
    source = JsonSource(type="json", path="input.json", format=form)
    return list(read_json_file(StoredFile(path, "input.json"), "hr__employees", source, known, batch))


@pytest.mark.parametrize(
    ("data", "rows", "letters"),
    [
        pytest.param(b'{"a":1}\n{"a":2}', [(1, '{"a":1}'), (2, '{"a":2}')], [], id="lines"),
        pytest.param(b'{"a":1}\r\n{"a":2}\r\n', [(1, '{"a":1}'), (2, '{"a":2}')], [], id="windows line ends"),
        pytest.param(b'\xef\xbb\xbf{"a":1}\n', [(1, '{"a":1}')], [], id="byte order mark"),
        pytest.param(
            b'{"a":1.50,"b":12345678901234567890123}\n',
            [(1, '{"a":1.50,"b":12345678901234567890123}')],
            [],
            id="numbers keep their digits",
        ),
        pytest.param(b'{"a":1}\n{"a":\n', [(1, '{"a":1}')], [(2, "invalid_json", '{"a":')], id="a cut line"),
        pytest.param(
            b'{"a":1}\n[2]\n"x"\n',
            [(1, '{"a":1}')],
            [(2, "not_an_object", "[2]"), (3, "not_an_object", '"x"')],
            id="lines that are no object",
        ),
        pytest.param(b'{"a":NaN}\n{"a":"NaN"}\n', [(2, '{"a":"NaN"}')], [(1, "invalid_json", '{"a":NaN}')], id="NaN"),
        pytest.param(
            b'{"a":[1,]}\n{"a":",]"}\n', [(2, '{"a":",]"}')], [(1, "invalid_json", '{"a":[1,]}')], id="a trailing comma"
        ),
        pytest.param(
            b'{"a":"\xe9"}\n{"a":1}\n', [(2, '{"a":1}')], [(1, "not_utf8", '{"a":"\\xe9"}')], id="a Latin-1 byte"
        ),
        pytest.param(b'[{"a":1},\n {"b":[1,\n2]}]', [(1, '{"a":1}'), (2, '{"b":[1,\n2]}')], [], id="array"),
        pytest.param(
            b'[{"a":1}, 5, null]',
            [(1, '{"a":1}')],
            [(2, "not_an_object", "5"), (3, "not_an_object", "null")],
            id="items that are no object",
        ),
        pytest.param(
            b'[{"a":1}, {"b" 2}, {"c":3}]',
            [(1, '{"a":1}')],
            [(2, "broken_document", '{"b" 2}, {"c":3}]')],
            id="an array that breaks",
        ),
        pytest.param(b'[{"a":1}, {"b":', [(1, '{"a":1}')], [(2, "broken_document", '{"b":')], id="an array cut short"),
        pytest.param(
            b'[{"a":"\xe9"}, {"b":2}]', [(2, '{"b":2}')], [(1, "not_utf8", '{"a":"\\xe9"}')], id="an item in Latin-1"
        ),
        pytest.param(b'{\n "a": 1\n}\n', [(1, '{\n "a": 1\n}')], [], id="one object over many lines"),
        pytest.param(
            b'{ "a": 1,\n "b": 2}\n{ "a": 3,\n "b": 4}',
            [(1, '{ "a": 1,\n "b": 2}'), (2, '{ "a": 3,\n "b": 4}')],
            [],
            id="objects over many lines",
        ),
        pytest.param(
            b'{"a":nan}\n{"a":-INF}\n{"a":[1 ,\t]}\n{"nan":"inf,]"}\n',
            [(4, '{"nan":"inf,]"}')],
            [(1, "invalid_json", '{"a":nan}'), (2, "invalid_json", '{"a":-INF}'), (3, "invalid_json", '{"a":[1 ,\t]}')],
            id="what DuckDB takes for JSON and nobody else",
        ),
        pytest.param(
            b'[{"a":NaN}, {"a":01}, {"a":1,}, tru, , {"b":1}]',
            [(6, '{"b":1}')],
            [
                (1, "invalid_json", '{"a":NaN}'),
                (2, "invalid_json", '{"a":01}'),
                (3, "invalid_json", '{"a":1,}'),
                (4, "invalid_json", "tru"),
                (5, "invalid_json", ""),
            ],
            id="items that are invalid by themselves",
        ),
        pytest.param(
            b'[{"a":"x"y"}, {"b":"z"}, {"c":"w""}, {"d":1}]',
            [],
            [(1, "broken_document", '{"a":"x"y"}, {"b":"z"}, {"c":"w""}, {"d":1}]')],
            id="stray quotes that make up for each other",
        ),
        pytest.param(
            b'[{"a":1},{"b":[1}, {"c":2}], {"d":1}]',
            [(1, '{"a":1}')],
            [(2, "broken_document", '{"b":[1}, {"c":2}], {"d":1}]')],
            id="brackets that make up for each other",
        ),
        pytest.param(
            b'[{"a":1}] {"b":2}',
            [(1, '{"a":1}')],
            [(2, "broken_document", '{"b":2}')],
            id="text after the end",
        ),
        pytest.param(b'[{"a":1},{"b":2}', [(1, '{"a":1}')], [(2, "broken_document", '{"b":2}')], id="no end"),
        pytest.param(
            b'{"a":"\\ud800"}\n{"a":"\\ud83d\\ude00"}\n',
            [(2, '{"a":"\\ud83d\\ude00"}')],
            [(1, "invalid_json", '{"a":"\\ud800"}')],
            id="half of a surrogate pair",
        ),
        pytest.param(
            b'{"a":1,"a":2}\n{"a":1e400}\n{"a":' + b"9" * 400 + b"}\n",
            [(1, '{"a":1,"a":2}'), (2, '{"a":1e400}'), (3, '{"a":' + "9" * 400 + "}")],
            [],
            id="keys that are there twice and huge numbers",
        ),
        pytest.param(
            b'[{"a":"\0"},{"b":1}]', [(2, '{"b":1}')], [(1, "not_utf8", '{"a":"\\x00"}')], id="a NUL byte in an item"
        ),
        pytest.param(b'\xef\xbb\xbf [{"a":1}]', [(1, '{"a":1}')], [], id="byte order mark before an array"),
        pytest.param(b" \n\n", [], [(1, "invalid_json", " ")], id="nothing but blanks"),
        pytest.param(b"<html></html>\n", [], [(1, "invalid_json", "<html></html>")], id="a web page"),
        pytest.param(b"[]", [], [], id="an empty array"),
        pytest.param(b"", [], [], id="an empty file"),
    ],
)
def test_every_record_ends_in_one_place(
    data: bytes, rows: list[tuple[int, str]], letters: list[tuple[Any, ...]], batch: Batch
) -> None:
    parcels = read(data, batch)
    assert rows_of(parcels) == rows
    assert letters_of(parcels, "line, reason, record") == letters


def test_deep_nesting_is_a_dead_letter_or_a_row_but_no_crash(batch: Batch) -> None:
    parcels = read(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}\n" + b'{"b":1}\n', batch)
    assert sum(parcel.count("read") for parcel in parcels) == 2
    assert rows_of(parcels)[-1] == (2, '{"b":1}')


def test_blank_lines_are_skipped_and_counted(batch: Batch) -> None:
    (parcel,) = read(b'{"a":1}\n\n{"a":2}\n', batch)
    assert (parcel.count("read"), parcel.loads[0].records_loaded, parcel.loads[0].records_skipped) == (3, 2, 1)


def test_grown_lines_give_the_new_ones_only(batch: Batch) -> None:
    (first,) = read(b'{"a":1}\n', batch)
    assert rows_of(read(b'{"a":1}\n{"a":2}\n', batch, known_after([first]))) == [(2, '{"a":2}')]


def test_an_array_that_is_what_it_was_gives_nothing(batch: Batch) -> None:
    (first,) = read(b'[{"a":1}]', batch)
    known = known_after([first])
    assert read(b'[{"a":1}]', batch, known) == []
    assert rows_of(read(b'[{"a":1},{"a":2}]', batch, known)) == [(2, '{"a":2}')]
    assert rows_of(read(b'[{"a":2}]', batch, known)) == [(1, '{"a":2}')]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["NaN", ",]", '"', "\\", "\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_VALUES, max_size=6), st.sampled_from([True, False]), st.sampled_from(["array", "lines"]))
def test_whatever_json_is_written_comes_back(
    batch: Batch, values: list[Any], is_ascii: bool, form: Literal["array", "lines"]
) -> None:
    texts = [json.dumps(value, ensure_ascii=is_ascii) for value in values]
    body = "[" + ", ".join(texts) + "]" if form == "array" else "\n".join(texts)
    parcels = read(body.encode(errors="surrogatepass"), batch, form=form)
    objects = [text for text, value in zip(texts, values, strict=True) if isinstance(value, dict)]
    if not any("\ud800" <= letter <= "\udfff" for letter in body):
        assert [json.loads(record) for _, record in rows_of(parcels)] == [json.loads(text) for text in objects]
        assert sum(parcel.count("read") for parcel in parcels) == len(values)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b'{"a":1}', b"{", b"}", b"[", b"]", b",", b'"', b"\n", b"\xff", b"\0", b"NaN", b"1"])))
def test_whatever_the_bytes_are_each_line_is_accounted_for(batch: Batch, pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    parcels = read(body, batch, form="lines")
    lines = body.split(b"\n")
    lines = lines[:-1] if lines[-1] == b"" else lines
    assert sum(parcel.count("read") for parcel in parcels) == len(lines)
    assert len(rows_of(parcels)) + len(letters_of(parcels)) == sum(line != b"" for line in lines)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1}\n{"a":\n',
        b"[]",
        b" [ ] ",
        b'[{"a":1}]\n\n',
        b'[{"a":1}, {"b":',
        b'[{"a":1}] x',
        b'[{"a":1}, {"b" 2}, {"c":3}]',
        b'{\n"a": 1}\n{\n"a": 2}\n',
        b'{\n"a": 1}\nx',
        b"<html></html>",
        '{"a":1}'.encode("utf-16"),
        b"",
    ],
)
def test_a_file_that_is_what_it_was_gives_nothing(data: bytes, batch: Batch) -> None:
    parcels = read(data, batch)
    assert parcels or not data
    assert all(parcel.loads[0].start_bytes == 0 for parcel in parcels[:1])
    if parcels:
        assert read(data, batch, known_after(parcels)) == []


@pytest.mark.parametrize("mended", [b'[{"a":1}, {"b":2}]', b'[{"a":1}, {"b":,2}, {"c":3}]'])
def test_a_broken_document_that_grew_is_read_from_its_start(mended: bytes, batch: Batch) -> None:
    known = known_after(read(b'[{"a":1}, {"b":', batch))
    (parcel, *_) = read(mended, batch, known)
    assert parcel.loads[0].start_bytes == 0


def test_a_letter_of_a_document_tells_its_place_in_the_file(batch: Batch) -> None:
    (parcel,) = read(b' [{"a":1},\n{"a":NaN}, 5]', batch)
    letters = fetch(parcel.dead_letters, "select line, byte_offset, byte_length, message from found order by 1")
    assert letters == [
        (2, 11, 9, "NaN, Infinity and a comma before a closing bracket are no JSON"),
        (3, 22, 1, "the JSON value is not an object"),
    ]


def test_letters_of_records_are_like_those_of_every_reader(batch: Batch) -> None:
    data = b'{"a":"\xe9"}\n{"a":"' + b"x" * 200_000 + b'\n{"a":"\0"}\n5\n'
    (parcel,) = read(data, batch)
    assert parcel.dead_letters is not None
    content_hash = hashlib.sha256(data).hexdigest()
    identities = [
        f"hr__employees\0{content_hash}\0{line}\0{place}\0{reason}"
        for line, place, reason in [
            (1, 0, "not_utf8"),
            (2, 10, "invalid_json"),
            (3, 200_017, "not_utf8"),
            (4, 200_027, "not_an_object"),
        ]
    ]
    letters = parcel.dead_letters
    assert [(field.name, field.type) for field in letters.schema] == [
        (field.name, field.type) for field in DEAD_LETTER_SCHEMA
    ]
    assert letters["dead_letter_id"].to_pylist() == [
        hashlib.sha256(identity.encode()).hexdigest()[:32] for identity in identities
    ]
    assert letters["record"].to_pylist() == ['{"a":"\\xe9"}', '{"a":"' + "x" * 99_994, '{"a":"\\x00"}', "5"]
    assert letters["record_bytes"].to_pylist() == [b'{"a":"\xe9"}', None, b'{"a":"\0"}', None]
    assert letters["byte_length"].to_pylist() == [9, 200_006, 9, 1]
    assert letters["occurred_at"].to_pylist() == [batch.loaded_at] * 4


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_told_by_name(encoding: str, batch: Batch) -> None:
    data = '[{"a":1}]\n'.encode(encoding)
    (parcel,) = read(data, batch)
    (letter,) = fetch(parcel.dead_letters, "select reason, message, byte_offset, byte_length from found")
    assert letter == (
        "broken_document",
        "the document cannot be read from here on: the file is UTF-16 text: save it as UTF-8",
        0,
        len(data),
    )


@pytest.mark.parametrize("form", ["array", "lines"])
def test_very_deep_nesting_does_not_end_the_process(form: Literal["array", "lines"], batch: Batch) -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    parcels = read(b"[" + deep + b',{"b":1}]' if form == "array" else deep + b'\n{"b":1}', batch, form=form)
    assert [line for line, _ in rows_of(parcels)] == [1, 2]


def test_a_list_that_opens_for_ever_is_a_dead_letter(batch: Batch) -> None:
    parcels = read(b"[" * 1_000_000, batch)
    assert [reason for _, reason, _ in letters_of(parcels)] == ["broken_document"]


def test_a_gzip_file_is_read_unpacked(batch: Batch) -> None:
    parcels = read(gzip.compress(b'[{"a":1}]'), batch)
    assert rows_of(parcels) == [(1, '{"a":1}')]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(['{"a":1}', '{"a":"é"}', "5", "tru", '{"a":nan}', '{"a":01}', '{"a":[1,]}', "[]", "", " { } "]),
        max_size=12,
    ),
    st.sampled_from([",", " ,\n", ",\t "]),
)
def test_every_item_is_a_row_or_a_letter(batch: Batch, items: list[str], comma: str) -> None:
    parcels = read(f"[{comma.join(items)}]".encode(), batch, form="array")
    wanted = [item.strip() for item in items] if items != [""] else []
    found = dict(rows_of(parcels)) | dict(letters_of(parcels, "line, record"))
    assert [found[number] for number in sorted(found)] == wanted
    assert [line for line, _ in rows_of(parcels)] == [
        number for number, item in enumerate(wanted, start=1) if item in ('{"a":1}', '{"a":"é"}', "{ }")
    ]


_STRAY = b'{"a":"x"y"}, {"b":"z""}'


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b", ".join(b'{"a":%d}' % number for number in range(30)) + b"]\n",
        b"\n".join(b'{"a":%d}' % number for number in range(30)),
        b"\n".join(b'{\n"a":%d}' % number for number in range(30)),
        b"[" + b", ".join(b'{"a":%d}' % number for number in range(15)) + b", " + _STRAY + b', {"c":1}' * 15 + b"]",
        b"[" + b", ".join(b'{"a":%d}' % number for number in range(15)) + b"] x",
    ],
)
def test_a_run_cut_off_after_any_parcel_goes_on_with_exactly_the_rest(
    data: bytes, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "CHUNK_BYTES", 60)
    parcels = read(data, batch)
    assert len(parcels) > 2
    assert sum(parcel.count("read") for parcel in parcels) in (30, 16)
    for index in range(len(parcels)):
        rest = read(data, batch, known_after(parcels[: index + 1]))
        assert rows_of(rest) == rows_of(parcels[index + 1 :])
        assert letters_of(rest) == letters_of(parcels[index + 1 :])
    positions = [0, *(parcel.loads[0].position_bytes for parcel in parcels)]
    assert [parcel.loads[0].start_bytes for parcel in parcels] == positions[:-1]


def test_nothing_after_a_break_is_taken_for_a_record(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "CHUNK_BYTES", 16)
    data = b'[{"a":1}, ' + _STRAY + b', {"c":1}' * 50 + b"]"
    parcels = read(data, batch)
    assert rows_of(parcels) == [(1, '{"a":1}')]
    assert letters_of(parcels, "line, reason, record") == [(2, "broken_document", data[10:].decode())]
    assert parcels[-1].loads[0].position_bytes == len(data)


def test_an_item_that_is_too_long_is_a_letter_of_its_own(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "CHUNK_BYTES", 1_000_000)
    long = b'{"a":"' + b"x" * LONGEST_RECORD + b'"}'
    parcels = read(b'[{"a":1}, ' + long + b', {"b":1}]', batch)
    assert rows_of(parcels) == [(1, '{"a":1}'), (3, '{"b":1}')]
    ((place, length, reason),) = [
        fetch(parcel.dead_letters, "select byte_offset, byte_length, reason from found")[0]
        for parcel in parcels
        if parcel.dead_letters
    ]
    assert (place, length, reason) == (10, len(long), "record_too_large")
