"""What the fields of some records hold: their names, which values they read as, whether one of them is a key."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import duckdb
import pyarrow as pa

from foundation.errors import SourceError
from foundation.warehouse import quote_identifier
from ingestion.names import snake_case
from operations.scaffold.macros import Macros
from operations.scaffold.names import column_names

# More than a table of Postgres has room for.
MOST_FIELDS = 1_500
# A key of JSON that may stand in SQL, YAML and Jinja as it is; another one stays in raw.
SAFE_KEY = re.compile(r"[\w $@./:+&()#-]{1,200}")
# The macro that reads a value, the type in a contract and in words.
KINDS = {
    "whole": ("whole_number", "integer", "whole number"),
    "amount": ("amount_usd", "decimal(12,2)", "number with at most two decimals"),
    "flag": ("yes_or_no", "boolean", "yes or no"),
    "day": ("calendar_date", "date", "day"),
    "moment": ("utc_timestamp", "timestamp with time zone", "moment, UTC"),
}
# Digits that nobody counts with: text keeps their zeros, and takes a letter when one comes.
_LABEL = re.compile(
    r"(^|_)(id|uuid|guid|key|num|number|no|code|sku|upc|ean|isbn|zip|zipcode|postcode|postal|phone|fax)$"
)
_FIRST_LOOK = 200
_BEST_KEYS = ("id", "uuid", "guid")
_GOOD_KEYS = re.compile(r"(^|_)(id|uuid|guid|key|slug|num|number|no|code|sku|isbn|ean)$")
ENOUGH_TO_TELL = 20  # records, of which the first column may be a key without being named as one
_LONGEST_KEY = 200


@dataclass(frozen=True)
class Field:
    """One field: `raw` is its column in raw or its key in a JSON record, `name` its column in the models.

    `kind` is text, document or one of KINDS. `low`, `high` and `mean` are of numbers.
    """

    raw: str
    name: str
    kind: str
    filled: int
    is_unique: bool
    longest: int = 0
    low: Decimal | None = None
    high: Decimal | None = None
    mean: Decimal | None = None
    has_currency: bool = False

    @property
    def type(self) -> str:
        """Its type in a contract."""
        return KINDS[self.kind][1] if self.kind in KINDS else "varchar"


@dataclass(frozen=True)
class Profile:
    """All fields of `count` records, and the keys of records that are left in raw, each with the reason."""

    fields: tuple[Field, ...]
    count: int
    left: Mapping[str, str]

    def field(self, name: str) -> Field | None:
        """The field of that name, be it the model's or the source's."""
        return next((field for field in self.fields if name in (field.name, field.raw)), None)


def profile(records: pa.Table, macros: Macros, *, is_json: bool) -> Profile:
    """What the fields of these records hold. Raises SourceError where there are too many, or none with a name."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        connection.register("records", records)
        left: dict[str, str] = {}
        documents: set[str] = set()
        if is_json:
            keys = _keys(connection, left)
            documents = {key for key, types in keys.items() if {"OBJECT", "ARRAY"} & set(types)}
            raw, columns = list(keys), _json_columns(keys, documents, macros)
        else:
            raw = list(records.column_names)
            columns = [quote_identifier(name) for name in raw]
        if not raw:
            raise SourceError("no field has a name that a model can bear", fix="see what the records hold")
        if len(raw) > MOST_FIELDS:
            raise SourceError(
                f"the records have {len(raw):,} fields, and a table has at most {MOST_FIELDS:,} columns",
                fix="pick the fields by hand (dbt_project/README.md), or use a source with fewer",
            )
        names = column_names([snake_case(name) for name in raw])
        listed = ", ".join(f"{column} as c{place}" for place, column in enumerate(columns))
        inner = f"select {macros('json_parsed', 'record', **_parts(raw, documents))} as fields from records"
        connection.execute(f"create table looked as select {listed} from ({inner if is_json else 'from records'})")
        found = []
        for place, (key, name) in enumerate(zip(raw, names, strict=True)):
            if _has_nul(connection, f"c{place}", is_document=key in documents):
                left[repr(key[:60])] = "it holds NUL characters, which Postgres does not take"
            else:
                found.append(_field(connection, macros, f"c{place}", key, name, is_document=key in documents))
        return Profile(tuple(found), records.num_rows, left)


def _keys(connection: duckdb.DuckDBPyConnection, left: dict[str, str]) -> dict[str, Sequence[str]]:
    """The keys of JSON records in the order in which they are met, each with the types of its values."""
    found = connection.execute(
        """
        with members as (
            select row_number() over () as number, json_keys(record) as keys, json_type(record, '$.*') as types
            from records where json_valid(record)
        ),
        listed as (
            select number, unnest(keys) as key, unnest(types) as type, generate_subscripts(keys, 1) as place
            from members
        )
        select key, list(distinct type) from listed group by key order by min(number), min(place)
        """
    ).fetchall()
    keys: dict[str, Sequence[str]] = {}
    for key, types in found:
        shown = repr(key[:60])
        if not SAFE_KEY.fullmatch(key) or not key.strip():
            left[shown] = "its name holds signs that cannot stand in a model"
        elif key.lower() in {one.lower() for one in keys}:
            left[shown] = "another one differs from it by capitals alone"
        else:
            keys[key] = types
    return keys


def _parts(raw: Sequence[str], documents: set[str]) -> dict[str, list[str]]:
    return {"texts": [key for key in raw if key not in documents], "documents": [k for k in raw if k in documents]}


def _json_columns(keys: Mapping[str, Sequence[str]], documents: set[str], macros: Macros) -> list[str]:
    return [macros("json_document" if key in documents else "json_text", "fields", key) for key in keys]


def _has_nul(connection: duckdb.DuckDBPyConnection, column: str, *, is_document: bool) -> bool:
    nul = "'\\u0000'" if is_document else "chr(0)"
    row = connection.execute(f"select coalesce(bool_or(contains({column}, {nul})), false) from looked").fetchone()
    return row is not None and bool(row[0])


def _field(
    connection: duckdb.DuckDBPyConnection, macros: Macros, column: str, raw: str, name: str, *, is_document: bool
) -> Field:
    row = connection.execute(
        f"select count(value), count(distinct value), coalesce(max(length(value)), 0), "
        f"coalesce(bool_or(value like '%$%'), false) from (select nullif(trim({column}), '') as value from looked)"
    ).fetchone()
    assert row is not None
    filled, distinct, longest, has_currency = row
    field = Field(raw, name, "document" if is_document else "text", filled, filled == distinct, longest)
    if is_document or not filled or longest > _LONGEST_KEY or _LABEL.search(name):
        return field
    connection.execute(
        f"create or replace temp table texts as select distinct trim({column}) as value from looked "
        f"where trim({column}) <> ''"
    )
    kind = _kind(connection, macros)
    if kind is None:
        return field
    field = replace(field, kind=kind, has_currency=kind == "amount" and has_currency)
    if kind not in ("whole", "amount"):
        return field
    value = macros(KINDS[kind][0], f"trim({column})")
    numbers = connection.execute(
        f"select min(n)::varchar, max(n)::varchar, avg(n)::varchar from (select {value} as n from looked)"
    ).fetchone()
    assert numbers is not None
    low, high, mean = (Decimal(number) for number in numbers)
    return replace(field, low=low, high=high, mean=mean)


def _kind(connection: duckdb.DuckDBPyConnection, macros: Macros) -> str | None:
    """What every text of the table `texts` reads as, or None: of a few first, as most columns fail with these."""
    conditions = {
        "flag": "not bool_and(regexp_full_match(value, '[0-9]+'))",
        # A zero in front says that it is no number, and a fraction that it is no whole one.
        "whole": "not bool_or(regexp_matches(value, '^[+-]?0[0-9]|^[+]|[.]'))",
        "amount": "bool_or(regexp_matches(value, '[.,$]')) and not bool_or(regexp_matches(value, '^[+-]?0[0-9]'))",
        "day": "not bool_or(contains(value, ':')) and not bool_or(regexp_full_match(value, '[0-9]+'))",
        "moment": "bool_or(contains(value, ':'))",
    }
    for kind, condition in conditions.items():
        read = f"bool_and(({macros(KINDS[kind][0], 'value')}) is not null)"
        if _holds(connection, read, f"(from texts limit {_FIRST_LOOK})") and _holds(
            connection, f"{read} and {condition}", "texts"
        ):
            return kind
    return None


def _holds(connection: duckdb.DuckDBPyConnection, condition: str, table: str) -> bool:
    row = connection.execute(f"select {condition} from {table}").fetchone()
    return row is not None and bool(row[0])


def guess_key(found: Profile, things: str) -> tuple[Field | None, str]:
    """The field that is likely the key of a record, and how sure that is."""
    unique = [field for field in found.fields if field.is_unique and field.filled == found.count and field.longest]
    unique = [field for field in unique if field.longest <= _LONGEST_KEY and field.kind not in ("amount", "flag")]
    singular = re.sub(r"(ies)$|s$", lambda match: "y" if match[1] else "", things)
    best = (*_BEST_KEYS, f"{singular}_id", f"{things}_id", "record_id")
    seen = f"unique and never empty in {counted(found.count, 'record')}"
    for name in best:
        for field in unique:
            if field.name == name:
                sure = "sure, as long as the next files agree" if found.count >= ENOUGH_TO_TELL else "likely"
                return field, f"{seen}, and named as keys are: {sure}"
    for field in unique:
        if _GOOD_KEYS.search(field.name) and field.kind != "document":
            return field, f"{seen}, and named as keys are: likely"
    first = found.fields[0] if found.fields else None
    if first is not None and found.count >= ENOUGH_TO_TELL and first in unique and first.kind in ("text", "whole"):
        return first, f"{seen}, and the first column: look whether it is meant as the key"
    return None, ""


def counted(number: int, thing: str) -> str:
    """`1 record`, `2,000 records`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
