"""The candidate marts as the warehouse holds them: their columns, what is wrong with them, their rows as sent."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from foundation.errors import ConfigError, PublishError
from foundation.settings import Output
from foundation.warehouse import quote_identifier, quote_literal
from publishing.target import LONGEST_NAME

if TYPE_CHECKING:
    import duckdb

MARTS = "marts"
ADDED_COLUMNS = ("created_at", "updated_at")  # the publisher's own; no mart may have them

Fingerprint = Mapping[str, int | Decimal | None]

_POSTGRES_TYPES = {
    "VARCHAR": "text",
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "UTINYINT": "smallint",
    "USMALLINT": "integer",
    "UINTEGER": "bigint",
    "UBIGINT": "numeric",
    "HUGEINT": "numeric",
    "UHUGEINT": "numeric",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP_S": "timestamp without time zone",
    "TIMESTAMP_MS": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "UUID": "uuid",
    "BLOB": "bytea",
    "JSON": "jsonb",
}
# The type of DuckDB whose binary form a column of Postgres takes.
_BINARY_TYPES = {
    "text": "varchar",
    "character varying": "varchar",
    "smallint": "smallint",
    "integer": "integer",
    "bigint": "bigint",
    "real": "float",
    "double precision": "double",
    "boolean": "boolean",
    "date": "date",
    "time without time zone": "time",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "uuid": "uuid",
    "bytea": "blob",
}
_ROOM = (4, 9, 18, 38)  # the digits that decimals of DuckDB have room for, by their width
_WIDEST = 38
_MOST_DECIMALS = 36
_INTEGERS = ("smallint", "integer", "bigint")
_DAYS = ("date", "timestamp without time zone", "timestamp with time zone")
_ESCAPED_NUL = r"(^|[^\\])(\\\\)*\\u0000"  # \u0000 in JSON text, but not \\u0000, which is a backslash and letters


@dataclass(frozen=True)
class Column:
    """A column of a candidate mart; `postgres_type` is spelt as Postgres' format_type() spells it."""

    name: str
    duckdb_type: str
    postgres_type: str
    is_required: bool

    @property
    def quoted(self) -> str:
        """The column's name in SQL."""
        return quote_identifier(self.name)

    @property
    def is_nested(self) -> bool:
        """Whether DuckDB holds a list, struct or map, which is published as JSON."""
        return self.postgres_type == "jsonb" and self.duckdb_type not in ("JSON", "VARCHAR")

    @property
    def as_json(self) -> str:
        """SQL of a jsonb column's JSON text."""
        return f"to_json({self.quoted})::varchar" if self.is_nested else f"{self.quoted}::varchar"

    def as_sent(self, table_type: str) -> str:
        """SQL of the value in the type whose binary form the table's column takes, which may be a wider one."""
        if table_type == "jsonb":
            return f"chr(1) || {self.as_json}"  # the version of jsonb's binary form, then its text
        if table_type == "numeric":
            return f"{self.quoted}::{self._decimal()}"
        return f"{self.quoted}::{_BINARY_TYPES[table_type]}"

    def _decimal(self) -> str:
        """A decimal type that takes the values and that DuckDB's extension writes as they are."""
        width, scale = self.decimal or (_WIDEST, 0)
        # It pads the decimals to a multiple of four, and must have room for those digits.
        room = next(digits for digits in _ROOM if width <= digits)
        padded = -(-scale // 4) * 4
        return f"decimal({width if padded <= room else min(room + 1, _WIDEST)}, {scale})"

    @property
    def decimal(self) -> tuple[int, int] | None:
        """Width and scale of a decimal."""
        found = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", self.duckdb_type)
        return (int(found.group(1)), int(found.group(2))) if found else None

    def measures(self, *, in_postgres: bool) -> dict[str, str]:
        """Name and SQL of aggregates that DuckDB and Postgres compute alike, whatever the order of the rows."""
        name = self.quoted
        found = {} if self.is_required else {"values": f"count({name})"}
        if self.postgres_type == "text":
            # Both count code points.
            found["characters"] = f"sum({'char_length' if in_postgres else 'length'}({name}))"
        elif self.postgres_type == "boolean":
            found["true"] = f"count(*) filter (where {name})"
        elif self.postgres_type in _INTEGERS or self._has_safe_sum():
            found["sum"] = f"sum({name})"
        elif self.postgres_type in _DAYS:
            day = "date '2000-01-01'"
            days = f"{name}::date - {day}" if in_postgres else f"date_diff('day', {day}, {name}::date)"
            found["days"] = f"sum(case when isfinite({name}) then {days} end)"
        return found

    def _has_safe_sum(self) -> bool:
        return self.decimal is not None and self.decimal[0] <= 28  # 10 digits are left for the number of rows

    def flaws(self) -> dict[str, str]:
        """What Postgres would refuse, and the SQL condition that finds it."""
        if self.postgres_type == "text":
            return {"a NUL byte": f"contains({self.quoted}::varchar, chr(0))"}
        if self.postgres_type == "jsonb":
            text = self.as_json
            return {
                "text that is not JSON": f"not json_valid({text})",
                "a NUL byte": f"contains({text}, '\\u0000') and regexp_matches({text}, '{_ESCAPED_NUL}')",
            }
        if self.postgres_type in _DAYS:
            day = f"{self.quoted}::date"
            return {
                "a day that Postgres does not know": f"isfinite({self.quoted})"
                f" and ({day} < date '4714-11-24 (BC)' or {day} > date '5874897-12-31')"
            }
        if self.duckdb_type in ("HUGEINT", "UHUGEINT"):
            too_wide = f"{self.quoted} is not null and try_cast({self.quoted} as decimal({_WIDEST}, 0)) is null"
            return {f"a number of more than {_WIDEST} digits": too_wide}
        return {}


@dataclass(frozen=True)
class Candidate:
    """One mart of the warehouse that an output publishes."""

    mart: str
    columns: tuple[Column, ...]
    output: Output

    @property
    def relation(self) -> str:
        """The mart in SQL of the warehouse."""
        return f"{MARTS}.{quote_identifier(self.mart)}"

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key, in its order."""
        return tuple(self.column(name) for name in self.output.key)

    @property
    def others(self) -> tuple[Column, ...]:
        """Every column that is not in the key."""
        return tuple(column for column in self.columns if column.name not in self.output.key)

    def column(self, name: str) -> Column:
        """The column called `name`, which is there."""
        return next(column for column in self.columns if column.name == name)


def describe(warehouse: "duckdb.DuckDBPyConnection", outputs: Mapping[str, Output]) -> dict[str, Candidate]:
    """The marts that `outputs` names, in the order of their names.

    Raises PublishError for a mart that is not built or cannot be a Postgres table, ConfigError for an output's
    column that its mart lacks.
    """
    query = "select table_name from information_schema.tables where table_schema = ?"
    built = sorted(name for (name,) in warehouse.execute(query, [MARTS]).fetchall())
    found = {}
    for mart in sorted(outputs):
        if mart not in built:
            near = difflib.get_close_matches(mart, built, n=1)
            hint = f", or write {near[0]} in penstock.yml" if near else ""
            raise PublishError(
                f"the mart {mart} is not in the warehouse", where=f"outputs.{mart}", fix=f"build it{hint}"
            )
        described = warehouse.execute(f"describe {MARTS}.{quote_identifier(mart)}").fetchall()
        _check_columns(mart, outputs[mart], [row[0] for row in described])
        columns = tuple(_column(mart, outputs[mart], row[0], row[1], is_required=row[2] == "NO") for row in described)
        found[mart] = Candidate(mart, columns, outputs[mart])
    return found


def refuse_flaws(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate, rows: str) -> None:
    """Raise PublishError for the first thing in a relation of a mart's rows that Postgres would refuse."""
    checks = [
        (column, flaw, condition)
        for column in candidate.columns
        for flaw, condition in _all_flaws(column, candidate.output).items()
    ]
    counted = [f"count(*) filter (where {condition})" for _, _, condition in checks]
    row = warehouse.execute(f"select {', '.join(counted)} from {rows}").fetchone()
    assert row is not None
    for (column, flaw, condition), count in zip(checks, row, strict=True):
        if count:
            raise _flaw_error(warehouse, candidate, rows, column, flaw, condition, count)


def fingerprint(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate) -> Fingerprint:
    """Counts and sums over all rows of a mart."""
    measures = fingerprint_sql(candidate, in_postgres=False)
    row = warehouse.execute(f"select {', '.join(measures.values())} from {candidate.relation}").fetchone()
    assert row is not None
    return dict(zip(measures, row, strict=True))


def count_rows(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate) -> int:
    """How many rows a mart has."""
    row = warehouse.execute(f"select count(*) from {candidate.relation}").fetchone()
    assert row is not None
    return int(row[0])


def fingerprint_sql(candidate: Candidate, *, in_postgres: bool) -> dict[str, str]:
    """Name and SQL of every aggregate of a mart's fingerprint."""
    named = {"rows": "count(*)"}
    for column in candidate.columns:
        for measure, expression in column.measures(in_postgres=in_postgres).items():
            named[f"{measure} of {column.name}"] = expression
    return named


def _check_columns(mart: str, output: Output, there: list[str]) -> None:
    named = {
        "key": output.key,
        "unique": output.unique,
        "indexes": output.indexes,
        "json_columns": output.json_columns,
        "export.columns": list(output.export.columns) if output.export else [],
    }
    for setting, columns in named.items():
        for column in columns:
            if column not in there:
                near = difflib.get_close_matches(column, there, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ConfigError(
                    f"the mart {mart} has no column {column!r}",
                    where=f"penstock.yml, outputs.{mart}.{setting}",
                    fix=f"{hint}it has {', '.join(there)}",
                )
    for column in there:
        if column in ADDED_COLUMNS:
            raise PublishError(
                f"the mart {mart} has a column {column}, which publishing adds",
                where=mart,
                fix="rename it in the model",
            )
        if len(column.encode()) > LONGEST_NAME:
            raise PublishError(
                f"the name of column {column} is longer than {LONGEST_NAME} bytes", where=mart, fix="shorten it"
            )


def _column(mart: str, output: Output, name: str, duckdb_type: str, *, is_required: bool) -> Column:
    postgres_type = _postgres_type(duckdb_type)
    if name in output.json_columns:
        if postgres_type not in ("text", "jsonb"):
            raise ConfigError(
                f"column {name!r} of the mart {mart} is {duckdb_type}, not text that holds JSON",
                where=f"penstock.yml, outputs.{mart}.json_columns",
                fix="take it out of json_columns",
            )
        postgres_type = "jsonb"
    if postgres_type is None:
        raise PublishError(
            f"{mart}.{name} is of type {duckdb_type}, which cannot be published exactly",
            where=f"marts.{mart}",
            fix="cast it in the model, for example to VARCHAR or TIMESTAMP",
        )
    return Column(name, duckdb_type, postgres_type, is_required or name in output.key)


def _postgres_type(duckdb_type: str) -> str | None:
    if duckdb_type in _POSTGRES_TYPES:
        return _POSTGRES_TYPES[duckdb_type]
    if duckdb_type.startswith("DECIMAL("):
        return "numeric" if int(duckdb_type.split(",")[1].rstrip(")")) <= _MOST_DECIMALS else None
    if duckdb_type.endswith("]") or duckdb_type.startswith(("STRUCT(", "MAP(")):
        return "jsonb"
    return "text" if duckdb_type.startswith("ENUM(") else None


def _all_flaws(column: Column, output: Output) -> dict[str, str]:
    missing = {"no value in a key column": f"{column.quoted} is null"} if column.name in output.key else {}
    return missing | column.flaws()


def _flaw_error(
    warehouse: "duckdb.DuckDBPyConnection",
    candidate: Candidate,
    rows: str,
    column: Column,
    flaw: str,
    condition: str,
    count: int,
) -> PublishError:
    key = " || ', ' || ".join(
        f"{quote_literal(name + ' = ')} || coalesce({quote_identifier(name)}::varchar, 'null')"
        for name in candidate.output.key
    )
    query = f"select {key} from {rows} where {condition} order by 1 limit 1"
    first: Any = warehouse.execute(query).fetchone()
    return PublishError(
        f"{candidate.mart}.{column.name} holds {flaw} in {count} row{'s' if count > 1 else ''}",
        where=f"marts.{candidate.mart}, first where {first[0]!r}",
        fix="mend it in staging or reject the record there; nothing was published",
    )
