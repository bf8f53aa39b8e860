"""JSON documents of any size: whole items each time, to be read on where they grew, and damage that is told."""

import hashlib
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers.framing import KnownPrefix
from ingestion.readers.json_files.framing import Break, Overlong, Stretch, item_spans, list_start, read_document

Piece = Stretch | Overlong | Break


def read(
    data: bytes, known: KnownPrefix | None = None, *, chunk_bytes: int = 16, longest: int = 1000, is_array: bool = True
) -> list[Piece]:
    return list(read_document(io.BytesIO(data), known, is_array=is_array, chunk_bytes=chunk_bytes, longest=longest))


def items_of(pieces: list[Piece]) -> list[bytes]:
    return [
        piece.data[start:end]
        for piece in pieces
        if isinstance(piece, Stretch)
        for start, end in zip(piece.starts, piece.ends, strict=True)
    ]


def known_after(piece: Piece) -> KnownPrefix:
    assert isinstance(piece, Stretch)
    return KnownPrefix(piece.end_bytes, piece.first_item - 1 + len(piece.starts), piece.prefix_hash)


_TEXT = st.text(max_size=8) | st.sampled_from(['"', "\\", '\\"', "\\\\", "[", "]}", ",", "NaN", "\n", "é", "😀"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_BLANKS = st.text(alphabet=" \t\r\n", max_size=3)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A JSON array with blanks anywhere between its items, and the texts of the items."""
    values = draw(st.lists(_VALUES, max_size=8))
    indent, is_ascii = draw(st.sampled_from([None, 0, 2])), draw(st.booleans())
    texts = [json.dumps(value, ensure_ascii=is_ascii, indent=indent) for value in values]
    padded = [draw(_BLANKS) + text + draw(_BLANKS) for text in texts]
    whole = draw(_BLANKS) + "[" + (",".join(padded) if padded else draw(_BLANKS)) + "]" + draw(_BLANKS)
    return whole.encode(errors="surrogatepass"), [text.encode(errors="surrogatepass") for text in texts]


@settings(max_examples=300, deadline=None)
@given(arrays(), st.integers(1, 200))
def test_items_come_back_text_for_text_wherever_blocks_end(document: tuple[bytes, list[bytes]], size: int) -> None:
    data, texts = document
    pieces = read(data, chunk_bytes=size)
    assert items_of(pieces) == texts
    assert all(isinstance(piece, Stretch) for piece in pieces)


@settings(max_examples=150, deadline=None)
@given(arrays(), st.integers(1, 100))
def test_a_run_cut_off_after_any_stretch_goes_on_with_exactly_the_rest(
    document: tuple[bytes, list[bytes]], size: int
) -> None:
    data, _ = document
    pieces = read(data, chunk_bytes=size)
    for index, piece in enumerate(pieces):
        known = known_after(piece)
        assert known.content_hash == hashlib.sha256(data[: known.position_bytes]).hexdigest()
        assert items_of(read(data, known, chunk_bytes=size)) == items_of(pieces[index + 1 :])
        assert known.lines == len(items_of(pieces[: index + 1]))
    assert read(data, known_after(pieces[-1]), chunk_bytes=size) == []


@settings(max_examples=150, deadline=None)
@given(arrays(), st.lists(_VALUES, min_size=1, max_size=3), st.integers(1, 100))
def test_an_array_that_grew_gives_the_new_items_only(
    document: tuple[bytes, list[bytes]], added: list[Any], size: int
) -> None:
    data, texts = document
    known = known_after(read(data, chunk_bytes=size)[-1])
    new = [json.dumps(value).encode() for value in added]
    grown = data.rstrip()[:-1] + (b"," if texts else b"") + b",".join(new) + b"]\n"
    pieces = read(grown, known, chunk_bytes=size)
    assert items_of(pieces) == new
    assert isinstance(pieces[0], Stretch)
    assert (pieces[0].start_bytes, pieces[0].first_item) == (known.position_bytes, len(texts) + 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(_TEXT, _VALUES, max_size=3), max_size=6), _BLANKS, st.integers(1, 100))
def test_objects_that_follow_each_other_come_back(values: list[Any], blank: str, size: int) -> None:
    texts = [json.dumps(value, indent=1).encode() for value in values]
    data = blank.encode().join(texts) + blank.encode()
    pieces = read(data, chunk_bytes=size, is_array=False)
    assert items_of(pieces) == texts
    for index, piece in enumerate(pieces):
        rest = read(data, known_after(piece), chunk_bytes=size, is_array=False)
        assert items_of(rest) == items_of(pieces[index + 1 :])


_SCRAPS = st.lists(
    st.sampled_from(
        [b'{"a":1}', b"{", b"}", b"[", b"]", b",", b'"', b"\\", b" ", b"\n", b"\xff", b"\0", b"NaN", b"12"]
    ),
    max_size=25,
)


@settings(max_examples=500, deadline=None)
@given(_SCRAPS, st.integers(1, 60), st.booleans())
def test_every_byte_is_in_an_item_a_letter_or_between_two(scraps: list[bytes], size: int, is_array: bool) -> None:
    data = (b"[" if is_array else b"") + b"".join(scraps)
    place = int(is_array)
    pieces = read(data, chunk_bytes=size, is_array=is_array, longest=40)
    for start, end, _ in places_of(pieces):
        assert data[place:start].strip() in (b"", b",")
        place = max(place, end)
    if pieces and isinstance(pieces[-1], Break):
        assert data[place : pieces[-1].offset].strip() in (b"", b",", b"]")
    else:
        assert data[place:].strip() in ((b"]",) if is_array else (b"",))
    whole = read(data, chunk_bytes=10_000, is_array=is_array, longest=40)
    assert [item for item in places_of(whole) if item[2]] == [item for item in places_of(pieces) if item[2]]


def places_of(pieces: list[Piece]) -> list[tuple[int, int, bool]]:
    """Where the items are in the file, and which are not too long."""
    found = []
    for piece in pieces:
        if isinstance(piece, Stretch):
            spans = zip(piece.starts + piece.offset, piece.ends + piece.offset, strict=True)
            found += [(int(start), int(end), end - start <= 40) for start, end in spans]
        elif isinstance(piece, Overlong):
            found.append((piece.offset, piece.end_bytes, False))
    return found


@pytest.mark.parametrize(
    ("data", "items", "offset"),
    [
        pytest.param(b'[{"a":1},{"b":2', [b'{"a":1}'], 9, id="it ends inside an item"),
        pytest.param(b'[{"a":1},{"b":2}', [b'{"a":1}'], 9, id="the last bracket is missing"),
        pytest.param(b'[{"a":1},', [b'{"a":1}'], 9, id="it ends after a comma"),
        pytest.param(b'[{"a":1}}', [], 1, id="a bracket of another kind ends it"),
        pytest.param(b'[{"a":1}] {"b":2}', [b'{"a":1}'], 10, id="text after the end"),
        pytest.param(b'[{"a":{"x":1},{"b":2}]', [], 1, id="a bracket inside an item is missing"),
        pytest.param(b'[{"a":1},{"b":"x},{"c":3}]', [b'{"a":1}'], 9, id="a quote is missing"),
        pytest.param(b"[", [], 1, id="nothing but the first bracket"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_document_that_breaks_tells_where(data: bytes, items: list[bytes], offset: int, size: int) -> None:
    pieces = read(data, chunk_bytes=size)
    assert items_of(pieces) == items
    assert isinstance(pieces[-1], Break)
    assert pieces[-1].offset == offset
    assert pieces[-1].item == len(items) + 1


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_no_object_breaks_a_row_of_objects(size: int) -> None:
    pieces = read(b'{"a":1}\n5 {"b":2}', chunk_bytes=size, is_array=False)
    assert items_of(pieces) == [b'{"a":1}']
    assert isinstance(pieces[-1], Break)
    assert pieces[-1].offset == 8


@pytest.mark.parametrize("changed", [b'[{"a":2},{"b":2}]', b'[{"a":1}5]', b'[{"a":1} {"b":2}]', b"[]", b'[{"a":1'])
def test_an_array_that_changed_is_read_from_its_start(changed: bytes) -> None:
    known = known_after(read(b'[{"a":1}]')[-1])
    (first, *_) = read(changed, known, chunk_bytes=5)
    assert first.start_bytes == 0


def test_an_array_that_lost_its_end_tells_so() -> None:
    known = known_after(read(b'[{"a":1}]')[-1])
    (piece,) = read(b'[{"a":1}', known)
    assert isinstance(piece, Break)
    assert (piece.offset, piece.item) == (8, 2)


@pytest.mark.parametrize("size", [10, 64, 10_000])
def test_an_item_that_is_too_long_is_passed_over_and_reading_goes_on(size: int) -> None:
    long = b'{"text":"' + b'x],\\"' * 500 + b'"}'
    data = b'[{"a":1}, ' + long + b', {"b":2}]'
    pieces = read(data, chunk_bytes=size)
    if size < len(long):
        (skipped,) = [piece for piece in pieces if isinstance(piece, Overlong)]
        assert (skipped.offset, skipped.end_bytes, skipped.item) == (10, 10 + len(long), 2)
        assert skipped.prefix_hash == hashlib.sha256(data[: skipped.end_bytes]).hexdigest()
        assert items_of(pieces) == [b'{"a":1}', b'{"b":2}']
        known = KnownPrefix(skipped.end_bytes, skipped.item, skipped.prefix_hash)
        assert items_of(read(data, known, chunk_bytes=size)) == [b'{"b":2}']
    else:
        assert items_of(pieces) == [b'{"a":1}', long, b'{"b":2}']


@settings(max_examples=150, deadline=None)
@given(arrays(), st.binary(max_size=20), st.binary(max_size=20))
def test_an_array_inside_a_larger_text_gives_its_items(
    document: tuple[bytes, list[bytes]], before: bytes, after: bytes
) -> None:
    data, texts = document
    text = data.strip()
    starts, ends, stop = item_spans(before + text + after, len(before))
    body = before + text + after
    assert [body[start:end] for start, end in zip(starts, ends, strict=True)] == texts
    assert stop == len(before) + len(text)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"data": {"items": [1, 2]}}', ["data", "items"]),
        (b' \n{"items" :\n[1, 2]}', ["items"]),
        (b'{"items": [9], "items": [1, 2]}', ["items"]),
        (b'{"x": {"items": [9]}, "\\u0069tems": [1, 2]}', ["items"]),
        (b"\xef\xbb\xbf[1, 2]", []),
        ('{"é:": "[", "ü": [1, 2]}'.encode(), ["ü"]),
    ],
)
def test_the_list_at_a_path_is_found(body: bytes, path: list[str]) -> None:
    starts, ends, _ = item_spans(body, list_start(body, path))
    assert [body[start:end] for start, end in zip(starts, ends, strict=True)] == [b"1", b"2"]


@pytest.mark.parametrize(("body", "path"), [(b'{"a": 1}', ["b"]), (b"[1]", ["a"]), (b'{"a": 1}', ["a"])])
def test_a_path_without_a_list_is_an_error(body: bytes, path: list[str]) -> None:
    with pytest.raises(ValueError, match="no "):
        list_start(body, path)


def test_a_list_that_never_closes_is_an_error() -> None:
    with pytest.raises(ValueError, match="never closes"):
        item_spans(b"[1, 2", 0)
