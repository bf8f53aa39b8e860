"""Whether a record is a JSON object as RFC 8259 has it. DuckDB parses; what it takes beyond that is found by a scan."""

import re
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.readers.json_files.bits import Places
from ingestion.readers.json_files.framing import LONGEST_RECORD, trim
from ingestion.readers.json_files.records import Records, broken_bytes, is_text


class Fault(NamedTuple):
    """Why a record goes to the dead letters."""

    reason: str
    message: str


INVALID = Fault("invalid_json", "the text is not valid JSON")
LENIENT = Fault("invalid_json", "NaN, Infinity and a comma before a closing bracket are no JSON")
HALF_ESCAPE = Fault("invalid_json", r"an escape such as \ud800 stands for half a character")
WEB_PAGE = Fault("invalid_json", "the text is not JSON but HTML or XML: is it the page of an error?")
NOT_AN_OBJECT = Fault("not_an_object", "the JSON value is not an object")
TOO_LARGE = Fault("record_too_large", f"the record is larger than {LONGEST_RECORD >> 20} MB")


class Verdicts:
    """For each record the fault it has, as a place in `faults`, or 0."""

    def __init__(self, count: int) -> None:
        self.codes: NDArray[np.int32] = np.zeros(count, np.int32)
        self.faults: list[Fault] = [Fault("", "")]

    def mark(self, indices: Places, fault: Fault) -> None:
        """Say that these records have this fault."""
        if indices.size:
            if fault not in self.faults:
                self.faults.append(fault)
            self.codes[indices] = self.faults.index(fault)

    def good(self) -> Places:
        """The records without a fault, by index."""
        return np.flatnonzero(self.codes == 0)

    def bad(self) -> Places:
        """The records with a fault, by index."""
        return np.flatnonzero(self.codes)

    def reason(self, index: int) -> str:
        """Why a record is bad."""
        return self.faults[int(self.codes[index])].reason

    def cut(self, count: int) -> None:
        """Forget all but the first records."""
        self.codes = self.codes[:count]


def judge(connection: duckdb.DuckDBPyConnection, records: Records) -> Verdicts:
    """Which records are no JSON object, and why; a scan has yet to find what DuckDB takes beyond JSON."""
    verdicts = Verdicts(len(records))
    verdicts.mark(np.flatnonzero(records.length() > LONGEST_RECORD), TOO_LARGE)
    if not is_text(records.data):
        _mark_undecodable(verdicts, records)
    left = verdicts.good()
    invalid = left[_unparsable(connection, records[left])]
    verdicts.mark(invalid, INVALID)
    codes = np.frombuffer(records.data, np.uint8)
    verdicts.mark(invalid[codes[records.starts[invalid]] == ord("<")], WEB_PAGE)
    if invalid.size and (b"\\ud" in records.data or b"\\uD" in records.data):
        halves = [index for index in invalid.tolist() if _has_half_escape(records.text(index))]
        verdicts.mark(np.array(halves, np.int64), HALF_ESCAPE)
    left = verdicts.good()
    verdicts.mark(left[_not_objects(records[left])], NOT_AN_OBJECT)
    return verdicts


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


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[][{}]")
_STRAY_QUOTE = re.compile(rb'[^\s{\[,:]\s*""|""\s*[^\s}\],:]|(?<!")"(?!")')
_WHOLE_ESCAPE = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def _mark_undecodable(verdicts: Verdicts, records: Records) -> None:
    codes = np.frombuffer(records.data, np.uint8)
    verdicts.mark(records.owners(np.flatnonzero(codes == 0))[0], Fault("not_utf8", "a NUL byte"))
    owners, first = records.owners(broken_bytes(codes))
    for byte in np.unique(codes[first]).tolist():
        verdicts.mark(owners[codes[first] == byte], Fault("not_utf8", f"byte 0x{byte:02x} is not valid UTF-8"))


def _unparsable(connection: duckdb.DuckDBPyConnection, records: Records) -> Places:
    connection.register("judged", pa.table({"record": records.array(), "place": np.arange(len(records))}))
    found = connection.execute("select place from judged where not json_valid(record) order by 1").fetchnumpy()
    return np.asarray(found["place"], np.int64)


def _not_objects(records: Records) -> Places:
    codes = np.frombuffer(records.data, np.uint8)
    others = np.flatnonzero(codes[records.starts] != ord("{"))
    begins = trim(codes, records.starts[others], records.ends[others])[0]
    found: Places = others[codes[begins] != ord("{")]
    return found


def _has_half_escape(record: bytes) -> bool:
    return bool(_HALF_ESCAPE.search(_WHOLE_ESCAPE.sub(b"", record)))
