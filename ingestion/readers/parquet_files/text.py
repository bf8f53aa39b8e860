"""Arrow values as exact text: what DuckDB would round is turned into text before it gets there."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingestion.readers.framing import is_plain

# Digits of the largest decimal that DuckDB has.
LARGEST_DECIMAL = 38


def readable(array: pa.Array) -> pa.Array:
    """`array` in a type that DuckDB takes without loss. Raises ArrowException for nested text that is no UTF-8."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array.type, pa.BaseExtensionType) and not isinstance(array.type, pa.UuidType | pa.JsonType):
        array = array.storage
    if pa.types.is_nested(array.type):
        array.validate(full=True)
    wanted = _readable_type(array.type)
    if wanted == array.type:
        return array
    in_utc = array.cast(_in_utc(array.type))  # whose text needs no database of zones
    text = in_utc.cast(wanted)
    if _is_moment(in_utc.type):
        return pc.replace_substring(pc.replace_substring(text, " ", "T"), "Z", "+00:00")
    return text


def as_text(name: str, type_: pa.DataType) -> str:
    """SQL for the text of a column that `readable` has prepared; `name` is quoted.

    Moments are ISO 8601, those with a zone in UTC. Bytes are \\x and two hexadecimal digits each. Nested values are
    JSON, but that floats in them may be NaN or Infinity.
    """
    if pa.types.is_nested(type_):
        return f"to_json({name})::varchar"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_):
        return f"'\\x' || lower(hex({name}))"
    if pa.types.is_timestamp(type_):
        text = f"regexp_replace({name}::varchar, '^([0-9]+-[0-9]{{2}}-[0-9]{{2}}) ([0-9])', '\\1T\\2')"
        return f"regexp_replace({text}, '[+]00$', '+00:00')" if type_.tz else text
    return f"{name}::varchar"


def unfit_rows(table: pa.Table) -> dict[int, str]:
    """Rows with text that is no UTF-8 or holds a NUL byte, which no database takes; with what is wrong."""
    found: dict[int, str] = {}
    for name in table.column_names:
        if pa.types.is_string(table.schema.field(name).type) or pa.types.is_large_string(table.schema.field(name).type):
            start = 0
            for chunk in table[name].chunks:
                for row, problem in _unfit_values(chunk).items():
                    found.setdefault(start + row, f"column {name}: {problem}")
                start += len(chunk)
    return found


def _unfit_values(array: pa.Array) -> dict[int, str]:
    _, offset_buffer, data_buffer = array.buffers()
    if data_buffer is None or not len(array):
        return {}
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    offsets = np.frombuffer(offset_buffer, width)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    data = memoryview(data_buffer)[int(offsets[0]) : int(offsets[-1])]
    offsets = offsets - offsets[0]
    codes = np.frombuffer(data, np.uint8)
    found = {int(row): "a NUL byte" for row in np.unique(_rows_of(offsets, np.flatnonzero(codes == 0)))}
    for row in _split_characters(offsets, codes):
        if not is_plain(bytes(data[offsets[row] : offsets[row + 1]])):
            found.setdefault(row, "a character is cut in two")
    place = 0
    while place < len(data):
        try:
            str(data[place:], "utf-8")
            break
        except UnicodeDecodeError as error:
            row = int(_rows_of(offsets, np.array([place + error.start]))[0])
            found[row] = f"byte 0x{codes[place + error.start]:02x} is not valid UTF-8"
            place = int(offsets[row + 1])
    return found


def _split_characters(offsets: NDArray[np.int64], codes: NDArray[np.uint8]) -> list[int]:
    """Rows that begin in the middle of a character, and those before them: put together they may look well."""
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    torn = np.flatnonzero(codes[offsets[:-1][filled]] & 0xC0 == 0x80)
    return sorted({row for place in torn.tolist() for row in filled[max(0, place - 1) : place + 1].tolist()})


def _rows_of(offsets: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(offsets, places, side="right") - 1, np.int64)


def _is_moment(type_: pa.DataType) -> bool:
    """A moment with a zone in nanoseconds, of which DuckDB keeps the microseconds."""
    return bool(pa.types.is_timestamp(type_) and type_.unit == "ns" and type_.tz)


def _in_utc(type_: pa.DataType) -> pa.DataType:
    return _mapped(type_, lambda leaf: pa.timestamp("ns", "UTC") if _is_moment(leaf) else leaf)


def _readable_type(type_: pa.DataType) -> pa.DataType:
    return _mapped(type_, _readable_leaf)


def _readable_leaf(type_: pa.DataType) -> pa.DataType:
    if _is_moment(type_) or (pa.types.is_time64(type_) and type_.unit == "ns") or pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_decimal256(type_):
        fits = type_.precision <= LARGEST_DECIMAL
        return pa.decimal128(type_.precision, type_.scale) if fits else pa.string()
    if pa.types.is_float16(type_):
        return pa.float32()
    return pa.int64() if pa.types.is_duration(type_) else type_  # of which Parquet knows nothing but the number


def _mapped(type_: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    if pa.types.is_struct(type_):
        return pa.struct([part.with_type(_mapped(part.type, leaf)) for part in type_])
    if pa.types.is_map(type_):
        return pa.map_(_mapped(type_.key_type, leaf), _mapped(type_.item_type, leaf))
    if pa.types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_mapped(type_.value_type, leaf)))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(type_.value_field.with_type(_mapped(type_.value_type, leaf)), type_.list_size)
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_mapped(type_.value_type, leaf)))
    return leaf(type_)
