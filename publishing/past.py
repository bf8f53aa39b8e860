"""Releases looked back at: which there are, what is in one, and how two of them differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from foundation.errors import PublishError
from foundation.settings import Output
from publishing import history, releases, target
from publishing.candidates import ADDED_COLUMNS, Candidate, Column
from publishing.changes import Mart
from publishing.releases import Entry, MartDelta, Standing
from publishing.target import Connection, Destination


@dataclass(frozen=True)
class RowChange:
    """A row that differs between two releases: its key, and of every column that differs the value in both."""

    mart: str
    action: str
    key: Mapping[str, Any]
    columns: Mapping[str, tuple[Any, Any]]


def list_releases(destination: Destination, last: int) -> Sequence[Entry]:
    """The last releases, newest first; none where nothing was published. Raises PublishError."""
    with target.connect(destination.dsn) as connection:
        return releases.entries(connection, destination.schema, last) if releases.is_there(connection) else []


def diff(
    destination: Destination, older: int | None = None, newer: int | None = None, *, rows: int = 0
) -> tuple[int, int, Mapping[str, MartDelta], Sequence[RowChange]]:
    """From one retained release to another, by default from the one before to the one shown: counts, and some rows.

    Raises PublishError for a release that is not there or not retained.
    """
    dsn, schema = destination.dsn, destination.schema
    with target.connect(dsn) as connection:
        stands = require_standing(connection, dsn, schema)
        newer = stands.release_id if newer is None else newer
        older = before(connection, dsn, schema, newer) if older is None else older
        for release_id in (older, newer):
            require_retained(connection, dsn, schema, release_id)
        names = {*releases.measures_of(connection, schema, older), *releases.measures_of(connection, schema, newer)}
        marts = read_marts(connection, dsn, schema, sorted(names))
        counts = {name: _count(connection, mart, older, newer) for name, mart in marts.items()}
        found: list[RowChange] = []
        for mart in marts.values():
            found += _rows(connection, mart, older, newer, rows - len(found)) if rows > len(found) else []
    return older, newer, counts, found


def require_standing(connection: Connection, dsn: str, schema: str) -> Standing:
    """The release that stands. Raises PublishError where nothing was published."""
    stands = releases.standing(connection, schema) if releases.is_there(connection) else None
    if stands is None:
        raise PublishError(
            f"nothing was published into the schema {schema}", where=target.describe(dsn), fix="penstock run"
        )
    return stands


def require_retained(connection: Connection, dsn: str, schema: str, release_id: int) -> Entry:
    """A release whose rows are all still there. Raises PublishError that names those that are."""
    found = releases.entries(connection, schema, 1_000_000)
    for entry in found:
        if entry.release_id == release_id and entry.is_retained:
            return entry
    kept = [str(entry.release_id) for entry in found if entry.is_retained]
    raise PublishError(
        f"there is no release {release_id} that could be read",
        where=target.describe(dsn),
        fix=f"penstock releases lists them; these can be read: {', '.join(kept[:20])}",
    )


def before(connection: Connection, dsn: str, schema: str, release_id: int) -> int:
    """The newest publish before a release. Raises PublishError where none is retained."""
    for entry in releases.entries(connection, schema, 1_000_000):
        if entry.release_id < release_id and entry.kind == "publish" and entry.is_retained:
            return entry.release_id
    raise PublishError(f"there is no release before {release_id} that could be read", where=target.describe(dsn))


def read_marts(connection: Connection, dsn: str, schema: str, names: Sequence[str]) -> Mapping[str, Mart]:
    """Published marts as the target has them. Raises PublishError for one that is not there any more."""
    found = {}
    for name in names:
        table = sql.Identifier(schema, name).as_string(connection)
        columns: Any = connection.execute(
            "select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute"
            " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped and attgenerated = ''"
            " and attname <> all (%s) order by attnum",
            [table, list(ADDED_COLUMNS)],
        ).fetchall()
        key: Any = connection.execute(
            "select a.attname from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid"
            " and a.attnum = any (i.indkey) where i.indrelid = to_regclass(%s) and i.indisprimary order by a.attnum",
            [table],
        ).fetchall()
        there = connection.execute(
            "select to_regprocedure(%s)", [history.as_of(schema, name).as_string(connection) + "(bigint)"]
        ).fetchone()
        if not columns or not key or there == (None,):
            raise PublishError(
                f"the table {schema}.{name}, its primary key or its history is gone",
                where=target.describe(dsn),
                fix="publish again, which makes it anew",
            )
        found[name] = Mart(
            schema,
            Candidate(
                name,
                tuple(Column(column, "", kind, is_required) for column, kind, is_required in columns),
                Output(key=[column for (column,) in key]),
            ),
        )
    return found


def _joined(mart: Mart, older: int, newer: int) -> dict[str, sql.Composable]:
    function = history.as_of(mart.schema, mart.candidate.mart)
    return {
        "joined": sql.SQL("{f}({older}) as a full join {f}({newer}) as b on {same}").format(
            f=function, older=sql.Literal(older), newer=sql.Literal(newer), same=mart.same_key("a", "b")
        ),
        "key": sql.Identifier(mart.candidate.output.key[0]),
        "differs": mart.differs("a", "b"),
    }


def _count(connection: Connection, mart: Mart, older: int, newer: int) -> MartDelta:
    row: Any = connection.execute(
        sql.SQL(
            "select count(*) filter (where a.{key} is null),"
            " count(*) filter (where a.{key} is not null and b.{key} is not null and ({differs})),"
            " count(*) filter (where b.{key} is null), count(b.{key}) from {joined}"
        ).format(**_joined(mart, older, newer))
    ).fetchone()
    return MartDelta(*row)


def _rows(connection: Connection, mart: Mart, older: int, newer: int, limit: int) -> list[RowChange]:
    keys = [
        sql.SQL("{}, coalesce(a.{}, b.{})").format(sql.Literal(k), sql.Identifier(k), sql.Identifier(k))
        for k in mart.candidate.output.key
    ]
    found: Any = connection.execute(
        sql.SQL(
            "select case when a.{key} is null then 'added' when b.{key} is null then 'removed' else 'changed' end,"
            " jsonb_build_object({keys}), (select coalesce(jsonb_object_agg(name, jsonb_build_array("
            " to_jsonb(a) -> name, to_jsonb(b) -> name)), '{{}}') from unnest({names}::text[]) as name"
            " where to_jsonb(a) -> name is distinct from to_jsonb(b) -> name)"
            " from {joined} where a.{key} is null or b.{key} is null or {differs} order by 2 limit {limit}"
        ).format(
            **_joined(mart, older, newer),
            keys=sql.SQL(", ").join(keys),
            names=sql.Literal([column.name for column in mart.candidate.others]),
            limit=sql.Literal(limit),
        )
    ).fetchall()
    return [
        RowChange(mart.candidate.mart, action, key, {name: (then, now) for name, (then, now) in columns.items()})
        for action, key, columns in found
    ]
