"""Whether a record is a JSON object as RFC 8259 has it. DuckDB parses; what it takes beyond that is found by a scan."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.readers.json_bits import Places
from ingestion.readers.json_framing import LONGEST_RECORD, trim

MESSAGES = {
    "invalid_json": "the text is not valid JSON",
    "lenient": "NaN, Infinity and a comma before a closing bracket are no JSON",
    "not_an_object": "the JSON value is not an object",
    "record_too_large": f"the record is larger than {LONGEST_RECORD >> 20} MB",
}
_WINDOW = 64 * 1024
_INLINE = 12


class Fault(NamedTuple):
    """Why a record goes to the dead letters."""

    reason: str
    message: str


@dataclass(frozen=True)
class Records:
    """Records as spans of the bytes that hold them, each with its line, or the number of its item."""

    data: bytes
    starts: Places
    ends: Places
    numbers: Places

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Records":
        return Records(self.data, self.starts[chosen], self.ends[chosen], self.numbers[chosen])

    def text(self, index: int) -> bytes:
        """The bytes of one record."""
        return self.data[self.starts[index] : self.ends[index]]

    def array(self) -> pa.Array:
        """The records as Arrow text over the very same bytes, which must be UTF-8."""
        length = self.ends - self.starts
        views = np.zeros((len(self), 4), np.int32)
        views[:, 0] = length
        short = np.flatnonzero(length <= _INLINE)
        long = np.flatnonzero(length > _INLINE)
        if long.size:
            fours = np.ndarray(len(self.data) - 3, np.int32, self.data, strides=(1,))
            views[long, 1] = fours[self.starts[long]]
            views[long, 3] = self.starts[long]
        if short.size:
            codes = np.frombuffer(self.data + bytes(_INLINE), np.uint8)
            inline = codes[self.starts[short][:, None] + np.arange(_INLINE)]
            inline[np.arange(_INLINE) >= length[short][:, None]] = 0
            views[short, 1:] = inline.view(np.int32)
        buffers = [None, pa.py_buffer(views), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.string_view(), len(self), buffers)


def is_text(data: bytes) -> bool:
    """Whether the bytes are UTF-8 without NUL, checked without a copy of them."""
    if b"\0" in data:
        return False
    try:
        offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def undecodable(records: Records) -> dict[int, str]:
    """Records with a NUL byte or bytes that are no UTF-8, by index, with what is wrong."""
    if is_text(records.data) or not len(records):
        return {}
    nul = np.flatnonzero(np.frombuffer(records.data, np.uint8) == 0)
    found = {int(index): "a NUL byte" for index in owners(records, nul)}
    # Windows, because the decoder makes room for all that it is given each time it is asked.
    edges = [
        0,
        *np.searchsorted(records.ends, np.arange(_WINDOW, int(records.ends[-1]), _WINDOW)).tolist(),
        len(records),
    ]
    for first, last in pairwise(edges):
        index = first
        while index < last:
            begin, stop = int(records.starts[index]), int(records.ends[last - 1])
            try:
                records.data[begin:stop].decode()
                break
            except UnicodeDecodeError as error:
                place = begin + error.start
                index = int(np.searchsorted(records.ends, place, side="right"))
                if index < last and records.starts[index] <= place:
                    found[index] = f"byte 0x{records.data[place]:02x} is not valid UTF-8"
                    index += 1
    return found


def unparsable(connection: duckdb.DuckDBPyConnection, records: Records) -> Places:
    """The records that DuckDB does not take for JSON, by index."""
    connection.register("judged", pa.table({"record": records.array(), "place": np.arange(len(records))}))
    found = connection.execute("select place from judged where not json_valid(record) order by 1").fetchnumpy()
    return np.asarray(found["place"], np.int64)


def not_objects(records: Records) -> Places:
    """The records, all valid JSON, whose value is not an object, by index."""
    codes = np.frombuffer(records.data, np.uint8)
    others = np.flatnonzero(codes[records.starts] != ord("{"))
    begins = trim(codes, records.starts[others], records.ends[others])[0]
    found: Places = others[codes[begins] != ord("{")]
    return found


def owners(records: Records, places: Places) -> Places:
    """The records that hold these places, by index."""
    if not len(records):
        return np.empty(0, np.int64)
    index = np.searchsorted(records.ends, places, side="right")
    inside = index < len(records)
    index, places = index[inside], places[inside]
    return np.unique(index[records.starts[index] <= places])


def faults(connection: duckdb.DuckDBPyConnection, records: Records) -> dict[int, Fault]:
    """What is wrong with the records that are no JSON object, by index."""
    large = np.flatnonzero(records.ends - records.starts > LONGEST_RECORD).tolist()
    found = {index: Fault("record_too_large", MESSAGES["record_too_large"]) for index in large}
    found |= {index: Fault("not_utf8", problem) for index, problem in undecodable(records).items()}
    left = _others(records, found)
    for index in left[unparsable(connection, records[left])].tolist():
        found[index] = Fault("invalid_json", _explain(records.text(index)))
    left = _others(records, found)
    for index in left[not_objects(records[left])].tolist():
        found[index] = Fault("not_an_object", MESSAGES["not_an_object"])
    return dict(sorted(found.items()))


def _others(records: Records, found: Collection[int]) -> Places:
    chosen = np.ones(len(records), bool)
    chosen[list(found)] = False
    return np.flatnonzero(chosen)


def is_sound(record: bytes) -> bool:
    """Whether the strings and brackets of a record that is no JSON are surely its own.

    A stray quote turns text into strings and strings into text up to the next one, and then a string ends or begins
    where none can. What comes after such a record cannot be told apart.
    """
    bare = _STRING.sub(b'""', record)
    if _STRAY_QUOTE.search(bare):
        return False
    opened: list[bytes] = []
    for bracket in _BRACKET.findall(bare):
        if bracket in b"[{":
            opened.append(bracket)
        elif not opened or opened.pop() + bracket not in (b"[]", b"{}"):
            return False
    return True


def _explain(record: bytes) -> str:
    if record.lstrip()[:1] == b"<":
        return "the text is not JSON but HTML or XML: is it the page of an error?"
    if _HALF_ESCAPE.search(_WHOLE_ESCAPE.sub(b"", record)):
        return r"an escape such as \ud800 stands for half a character"
    return MESSAGES["invalid_json"]


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[][{}]")
_STRAY_QUOTE = re.compile(rb'[^\s{\[,:]\s*""|""\s*[^\s}\],:]|(?<!")"(?!")')
_WHOLE_ESCAPE = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
