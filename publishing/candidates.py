"""The candidate marts as the warehouse holds them: their columns, what is wrong with them, their rows as CSV."""

import difflib
import re
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
BATCH_ROWS = 20_000

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

    @property
    def as_sent(self) -> str:
        """SQL of the value for the CSV. Arrow writes integers, booleans and decimals exactly; the rest is text."""
        if self.postgres_type == "jsonb":
            return self.as_json
        if self.postgres_type in _DAYS:
            return f"replace({self.quoted}::varchar, ' (BC)', ' BC')"
        if self.postgres_type == "bytea":
            return f"'\\x' || hex({self.quoted})"
        if self.postgres_type in (*_INTEGERS, "boolean") or self.duckdb_type.startswith("DECIMAL"):
            return self.quoted
        return f"{self.quoted}::varchar"

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
        width = re.match(r"DECIMAL\((\d+),", self.duckdb_type)
        return width is not None and int(width.group(1)) <= 28  # 10 digits are left for the number of rows

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


def csv_batches(
    warehouse: "duckdb.DuckDBPyConnection", selected: Sequence[str], relation: str
) -> Generator[tuple[int, memoryview]]:
    """Expressions over a relation's rows as CSV without a header, in bounded batches with their number of rows.

    A null is an empty field and every text is quoted, so that an empty text stays one. The next batch is made while
    one is sent.
    """
    from pyarrow import BufferOutputStream
    from pyarrow.csv import WriteOptions, write_csv

    reader = warehouse.execute(f"select {', '.join(selected)} from {relation}").to_arrow_reader(BATCH_ROWS)
    options = WriteOptions(include_header=False)

    def make() -> tuple[int, memoryview] | None:
        batch = next(reader, None)
        if batch is None:
            return None
        sink = BufferOutputStream()
        write_csv(batch, sink, options)
        return batch.num_rows, memoryview(sink.getvalue())

    with ThreadPoolExecutor(1, thread_name_prefix="candidate") as pool:
        following = pool.submit(make)
        while (made := following.result()) is not None:
            following = pool.submit(make)
            yield made


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
        return "numeric"
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
        fix="mend it in staging or reject the record there; nothing was sent",
    )
