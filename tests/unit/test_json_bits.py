"""What a scan of JSON text finds, wherever its blocks end, against a plain reading of the same text."""

import json
import re
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers.json_files import bits as json_bits
from ingestion.readers.json_files.bits import Context, Scan, find_separators, places, scan

_KEYS = st.text(max_size=12) | st.sampled_from(['"', "\\", "\\\\", "n", "a,b", ":", "x" * 70, "\\" * 63])
_NOT_A_NUMBER = st.sampled_from([float("nan"), float("inf"), float("-inf")])
_BLANKS = st.sampled_from([b"", b" ", b"\n" * 70])


@st.composite
def texts(draw: st.DrawFn, is_valid: bool = False) -> tuple[bytes, list[dict[str, Any]]]:
    """Items of an array after its first bracket; NaN, Infinity and trailing commas are among them if they may."""
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(
        st.none() | st.booleans() | _KEYS | (numbers if is_valid else numbers | _NOT_A_NUMBER),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
        max_leaves=10,
    )
    records = draw(st.lists(st.dictionaries(_KEYS, values, max_size=5), max_size=6))
    blank, trailing = draw(_BLANKS), not is_valid and draw(st.booleans())
    items = [json.dumps(record, indent=draw(st.sampled_from([None, 1])), ensure_ascii=False) for record in records]
    if trailing:
        items = [item[:-1] + ",}" if len(item) > 2 else item for item in items]
    return (b"," + blank).join(item.encode() + blank for item in items) + b"]", records


def scan_in_blocks(text: bytes, size: int) -> tuple[Scan, Context]:
    context = Context(depth=1)
    with patch.object(json_bits, "BLOCK_BYTES", size):
        return scan(text, context, 1), context


@settings(max_examples=300, deadline=None)
@given(texts(), st.sampled_from([64, 128, 192]))
def test_a_scan_is_the_same_wherever_its_blocks_end(document: tuple[bytes, list[Any]], size: int) -> None:
    text, _ = document
    (blocks, end), (whole, end_of_whole) = scan_in_blocks(text, size), scan_in_blocks(text, 1 << 20)
    assert blocks.separators.tolist() == whole.separators.tolist()
    assert blocks.lenient.tolist() == whole.lenient.tolist()
    assert blocks.skeleton == whole.skeleton
    assert end == end_of_whole
    every = np.arange(len(text) + 1)
    assert blocks.skeleton_offsets(every).tolist() == whole.skeleton_offsets(every).tolist()
    with patch.object(json_bits, "BLOCK_BYTES", size):
        assert find_separators(text, Context(depth=1), 1).tolist() == whole.separators.tolist()


@settings(max_examples=300, deadline=None)
@given(texts())
def test_what_is_no_json_is_found_outside_of_strings(document: tuple[bytes, list[Any]]) -> None:
    text, _ = document
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"', lambda found: b'"' * len(found[0]), text, flags=re.DOTALL)
    wanted = {found.end() for found in re.finditer(rb"(?i)n(?!u)", bare)}
    wanted |= {found.end() - 1 for found in re.finditer(rb",\s*[\]}]", bare)}
    found, _ = scan_in_blocks(text, 64)
    assert set(found.lenient.tolist()) == wanted


_MARKS = {str: '"', bool: "t", dict: "{", list: "[", type(None): "n", int: "", float: ""}


@settings(max_examples=300, deadline=None)
@given(texts(is_valid=True))
def test_a_skeleton_is_the_keys_of_a_record_with_a_mark_for_each_type(document: tuple[bytes, list[Any]]) -> None:
    text, records = document
    found, _ = scan_in_blocks(text, 64)
    skeletons = [
        "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_MARKS[type(record[key])]}" for key in record)
        for record in records
    ]
    assert found.skeleton.decode() == "".join(skeletons)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 639)))
def test_places_are_those_of_the_bits_that_are_set(wanted: set[int]) -> None:
    flags = np.zeros(640, np.uint8)
    flags[list(wanted)] = 1
    words = np.packbits(flags, bitorder="little").view(np.uint64)
    assert places(words).tolist() == sorted(wanted)
