"""Which keys the records of a parcel have, of which types, and whether that is what was expected."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.readers.json_files.bits import Scan
from ingestion.readers.json_files.records import Records

MOST_KEYS = 1000
ABSENT = "absent"
# In a list of types beyond the keys that were listed.
MORE_KEYS = "..."

_TYPE = """
    case type
        when 'VARCHAR' then 'text'
        when 'BOOLEAN' then 'boolean'
        when 'OBJECT' then 'object'
        when 'ARRAY' then 'array'
        when 'NULL' then null
        else 'number'
    end"""
_MEMBERS = "select shape, unnest(json_keys(record)) as key, unnest(json_type(record, '$.*')) as type from examples"
_WITHOUT_SURROGATES = r"regexp_replace(record, '\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '/', 'g')"
# A key is in every record when it is there as often as there are records, and in other ones each time: one record may
# hold it twice. Grouping first by key and type is four times faster than counting distinct records.
_FIELDS = f"""
    with found as (
        select key, {_TYPE} as type, count(*) as times, bit_xor(hash(shape)) as mark
        from ({_MEMBERS})
        group by all
    )

    select
        key,
        list(type) filter (type is not null) as types,
        sum(times) <> (select count(*) from examples)
            or bit_xor(mark) <> (select bit_xor(hash(shape)) from examples) as is_absent
    from found
    group by key
    order by key
    limit {MOST_KEYS + 1}
"""
# Of several things that a shape has against what is expected the first by key is told.
_DRIFT = f"""
    with members as (select shape, key, {_TYPE} as type from ({_MEMBERS})),

    wrong as (
        select members.shape, expected.key, members.type as found, expected.types
        from members
        inner join expected on members.key = expected.key
        where members.type is not null
            and len(list_filter(expected.types, lambda type: type <> '{ABSENT}')) > 0
            and not list_contains(expected.types, members.type)
        union all
        select examples.shape, expected.key, '{ABSENT}' as found, expected.types
        from examples
        cross join expected
        where not list_contains(expected.types, '{ABSENT}')
            and not exists (
                select 1 from members where members.shape = examples.shape and members.key = expected.key
            )
    )

    select shape, key, found, types
    from wrong
    qualify row_number() over (partition by shape order by key, found) = 1
    order by shape
"""


class Shapes:
    """The shapes of some records: records with the same keys in the same order, of the same types, have one shape.

    `found` is the scan of the text that holds them. Only one example of each shape is parsed.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, records: Records, found: Scan) -> None:
        self._connection = connection
        self._records = records
        encoded = _skeletons(records, found).dictionary_encode()
        self._shape_of: NDArray[np.int64] = encoded.indices.to_numpy()

    def choose(self, chosen: NDArray[np.int64]) -> None:
        """Tell from now on of the records with these indices alone."""
        self._chosen = chosen
        example = np.full(len(self._shape_of), -1)
        example[self._shape_of[chosen]] = chosen
        shapes = np.flatnonzero(example >= 0)
        examples = pa.table({"record": self._records[example[shapes]].array(), "shape": shapes})
        self._connection.register("examples", examples)

    def fields(self) -> str:
        """JSON: each key with the sorted types it has, and "absent" where a record lacks it."""
        found = self._ask(_FIELDS)
        fields = {
            key: sorted([*(types or []), *([ABSENT] if is_absent else [])])
            for key, types, is_absent in found[:MOST_KEYS]
        }
        if len(found) > MOST_KEYS:
            fields[MORE_KEYS] = []
        return json.dumps(fields, ensure_ascii=False)

    def drift(self, expected: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """What chosen records have against the types expected of keys, and their indices; new keys are free."""
        keys = [key for key in expected if key != MORE_KEYS]
        types = pa.array([list(expected[key]) for key in keys], pa.list_(pa.string()))
        table = pa.table({"key": pa.array(keys, pa.string()), "types": types})
        self._connection.register("expected", table)
        shapes: dict[str, list[int]] = {}
        for shape, key, found, types in self._ask(_DRIFT):
            shapes.setdefault(f"the key {key!r} is {found}, expected {' or '.join(types)}", []).append(shape)
        for message, drifted in shapes.items():
            yield message, self._chosen[np.isin(self._shape_of[self._chosen], drifted)]

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query).fetchall()
        except duckdb.InvalidInputException:
            # Half a surrogate pair, which JSON allows and DuckDB refuses: keys and types can be told without it. Behind
            # a backslash that is escaped, a slash makes an escape too.
            whole = self._connection.execute(f"select shape, {_WITHOUT_SURROGATES} as record from examples")
            self._connection.register("examples", whole.to_arrow_table())
            return self._connection.execute(query).fetchall()


def _skeletons(records: Records, found: Scan) -> pa.Array:
    """The skeleton of each record; those of records that were left out lie between them."""
    begins, stops = found.skeleton_offsets(records.starts), found.skeleton_offsets(records.ends)
    if np.array_equal(begins[1:], stops[:-1]):
        return _spans(found.skeleton, np.append(begins, stops[-1:]))
    every = _spans(found.skeleton, np.append(np.stack([begins, stops], axis=1).ravel(), stops[-1:]))
    return every.take(pa.array(np.arange(0, len(every), 2)))


def _spans(data: bytes, offsets: NDArray[np.int64]) -> pa.Array:
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
