"""Which keys and types the records of a parcel have, and what a schema_drift policy makes of others."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.errors import SourceError
from foundation.sources import JsonSource
from ingestion.parcels import Batch, Parcel
from ingestion.readers.json_files import files as json_files
from ingestion.readers.json_files.files import read_json_file
from ingestion.stores import StoredFile
from tests.arrow import fetch, letters_of

Policy = Literal["evolve", "freeze", "dead_letter"]


def read(
    data: bytes, batch: Batch, policy: Policy = "evolve", expected: Mapping[str, Sequence[str]] | None = None
) -> list[Parcel]:
    path = batch.folder.parent / "input.json"
    path.write_bytes(data)
    source = JsonSource(type="json", path="input.json", schema_drift=policy)
    return list(read_json_file(StoredFile(path, "input.json"), "hr__employees", source, None, batch, expected or {}))


def fields_of(parcel: Parcel) -> dict[str, list[str]]:
    fields = parcel.loads[0].fields
    assert fields is not None
    found: dict[str, list[str]] = json.loads(fields)
    return found


@pytest.mark.parametrize("joint", ["\n", ","])
def test_fields_name_every_key_with_the_types_it_has(joint: str, batch: Batch) -> None:
    records = [
        '{"id":1,"name":"x","is_it":true,"tags":[1,{"deep":2}],"home":{"id":"x"},"none":null,"e\\u0301":-1.5}',
        '{ "id" : "1" , "name" : "a, \\"b\\": {", "is_it":false, "tags":{}, "home":{}, "none":null, "e\\u0301":1e400}',
        '{"name":null,"extra":0,"is_it":true,"tags":[],"home":null,"none":null,"e\\u0301":0}',
    ]
    text = joint.join(records)
    (parcel,) = read((f"[{text}]" if joint == "," else text).encode(), batch)
    assert fields_of(parcel) == {
        "id": ["absent", "number", "text"],
        "name": ["text"],
        "is_it": ["boolean"],
        "tags": ["array", "object"],
        "home": ["object"],
        "none": [],
        "e\u0301": ["number"],
        "extra": ["absent", "number"],
    }


def test_a_key_that_is_there_twice_hides_no_record_that_lacks_it(batch: Batch) -> None:
    (parcel,) = read(b'{"a":1,"a":"x"}\n{"b":1}\n', batch)
    assert fields_of(parcel) == {"a": ["absent", "number", "text"], "b": ["absent", "number"]}


def test_fields_tell_of_loaded_records_alone(batch: Batch) -> None:
    (parcel,) = read(b'{"a":1}\n{"a":NaN,"b":1}\n{"c":}\n[{"d":1}]\n', batch)
    assert fields_of(parcel) == {"a": ["number"]}


def test_a_parcel_without_rows_has_no_fields(batch: Batch) -> None:
    (parcel,) = read(b"[5]", batch)
    assert parcel.loads[0].fields is None


def test_beyond_a_thousand_keys_one_more_tells_that_there_are_others(batch: Batch) -> None:
    (parcel,) = read(json.dumps({f"k{number:04}": number for number in range(1500)}).encode(), batch)
    fields = fields_of(parcel)
    assert len(fields) == 1001
    assert fields["..."] == []


_VALUES = st.sampled_from([None, True, False, 0, -1.5, 1e300, "x", 'a":{,', "\\", [], [{"x": 1}], {}, {"x": [1]}])
_KEYS = st.sampled_from(["a", "b", "", ":", '"', "\\", "a,b", "{", "é", "\n"])
_NAMES = {bool: "boolean", int: "number", float: "number", str: "text", list: "array", dict: "object"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(_KEYS, _VALUES, max_size=4), min_size=1, max_size=8),
    st.sampled_from([None, 1]),
    st.sampled_from(["array", "lines"]),
)
def test_fields_are_those_that_a_parser_finds(
    batch: Batch, records: list[dict[str, Any]], indent: int | None, form: str
) -> None:
    wanted: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for key, value in record.items():
            wanted[key] |= {_NAMES[type(value)]} if value is not None else set()
    for key in list(wanted):
        wanted[key] |= {"absent"} if any(key not in record for record in records) else set()
    body = json.dumps(records, indent=indent) if form == "array" else "\n".join(map(json.dumps, records))
    (parcel,) = read(body.encode(), batch)
    assert fields_of(parcel) == {key: sorted(types) for key, types in wanted.items()}


_EXPECTED = {"id": ["number"], "name": ["text"], "note": ["absent", "text"], "never_seen": [], "...": []}
_DRIFTED = (
    b'{"id":1,"name":"x","new":[]}\n'
    b'{"id":"2","name":"x"}\n'
    b'{"id":3}\n'
    b'{"id":4,"name":null,"note":"x","never_seen":7}\n'
    b'{"id":5,"name":"x","note":{}}\n'
    b"not json\n"
    b'{"id":6,"name":"x"}\n'
)


def test_evolve_loads_records_of_another_shape(batch: Batch) -> None:
    (parcel,) = read(_DRIFTED, batch, "evolve", _EXPECTED)
    assert parcel.count("loaded") == 6


def test_dead_letter_sets_records_of_another_shape_aside(batch: Batch) -> None:
    expected = _EXPECTED | {"never_seen": ["absent"]}
    (parcel,) = read(_DRIFTED, batch, "dead_letter", expected)
    assert letters_of([parcel], "line, reason, message, record") == [
        (2, "schema_drift", "the key 'id' is text, expected number", '{"id":"2","name":"x"}'),
        (3, "schema_drift", "the key 'name' is absent, expected text", '{"id":3}'),
        (5, "schema_drift", "the key 'note' is object, expected absent or text", '{"id":5,"name":"x","note":{}}'),
        (6, "invalid_json", "the text is not valid JSON", "not json"),
    ]
    assert fetch(parcel.rows, "select _line from found order by 1") == [(1,), (4,), (7,)]
    assert fields_of(parcel)["id"] == ["number"]


def test_dead_letter_with_nothing_left_writes_no_rows(batch: Batch) -> None:
    (parcel,) = read(b'[{"id":"x"}]', batch, "dead_letter", {"id": ["number"]})
    assert (parcel.rows, parcel.count("dead_lettered")) == (None, 1)


def test_freeze_stops_before_anything_of_the_chunk(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "CHUNK_BYTES", 30)
    path = batch.folder.parent / "input.json"
    path.write_bytes(b'{"id":1}\n' * 5 + b'{"id":"x"}\n' + b'{"id":1}\n' * 5)
    source = JsonSource(type="json", path="input.json", schema_drift="freeze")
    parcels = read_json_file(StoredFile(path, "x"), "hr__employees", source, None, batch, {"id": ["number"]})
    assert next(parcels).count("loaded") == 3
    with pytest.raises(SourceError, match="the key 'id' is text, expected number"):
        next(parcels)


def test_new_keys_always_pass(batch: Batch) -> None:
    (parcel,) = read(b'{"id":1,"new":1}', batch, "freeze", {"id": ["number"]})
    assert parcel.count("loaded") == 1
