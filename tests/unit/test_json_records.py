"""Spans of bytes as Arrow text, and which bytes are no UTF-8."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers.json_files.judge import is_sound
from ingestion.readers.json_files.records import Records, broken_bytes, is_text


def broken_by_cpython(data: bytes) -> list[int]:
    """The places at which CPython's decoder, beginning anew after each byte it refuses, stops."""
    found, place = [], 0
    while True:
        try:
            data[place:].decode()
        except UnicodeDecodeError as error:
            place += error.start
            found.append(place)
            place += 1
        else:
            return found


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.sampled_from([bytes([code]) for code in (*range(0x7E, 0x100), 0x41)])
        | st.text(max_size=2).map(lambda text: text.encode())
    )
)
def test_bytes_that_are_no_utf_8_are_found(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert broken_bytes(np.frombuffer(data, np.uint8)).tolist() == broken_by_cpython(data)
    assert is_text(data) == (not broken_by_cpython(data) and b"\0" not in data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=8), st.text(max_size=3))
def test_spans_become_text_whatever_lies_between(texts: list[str], between: str) -> None:
    parts = [text.encode() for text in texts]
    gap = between.encode()
    lengths = np.array([len(part) for part in parts], np.int64)
    starts = np.cumsum(lengths + len(gap)) - lengths
    records = Records(gap + gap.join(parts), starts, starts + lengths, np.arange(len(parts)))
    assert records.array().to_pylist() == texts


@pytest.mark.parametrize(
    "record",
    [b'{"a":NaN}', b'{"a":tru}', b'{"a":,"b":[1,]}', b'{"a":"\\x"}', b"", b"5 6", b'{"a" : "\\"" , }', b'{"a":"\t"}'],
)
def test_a_wrong_value_leaves_an_item_sound(record: bytes) -> None:
    assert is_sound(record)


@pytest.mark.parametrize(
    "record",
    [b'{"a":"x"y"}', b'{"a" "b"}', b'{"a":[1}', b'{"a":1]', b'{"a":"x" b":"y"}', b'{"a": "}', b'"a""b"', b"{}}{"],
)
def test_a_stray_quote_or_bracket_does_not(record: bytes) -> None:
    assert not is_sound(record)
