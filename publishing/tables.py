"""The published tables: how one is made for a mart, and how it follows when the mart's columns change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from foundation.errors import PublishError
from publishing.candidates import ADDED_COLUMNS, Candidate, Column, Fingerprint
from publishing.target import Connection, fit_name

# A column of the first type can take every value of those that follow, so it stays as it is.
_WIDER = {
    "integer": ("smallint",),
    "bigint": ("smallint", "integer"),
    "numeric": ("smallint", "integer", "bigint"),
    "double precision": ("real",),
    "character varying": ("text",),
}


Counted = Callable[[], Fingerprint]


@dataclass(frozen=True)
class TablePlan:
    """What brings a table into the shape of its mart; `types` are those of the table's columns, in the mart's order."""

    is_new: bool
    types: Mapping[str, str]
    before_rows: tuple[sql.Composed, ...]
    after_rows: tuple[sql.Composed, ...]

    @property
    def changes_table(self) -> bool:
        """Whether the table's definition changes, so that readers have to wait for a moment."""
        return bool(self.before_rows or self.after_rows)


@dataclass(frozen=True)
class _Found:
    """A table as Postgres has it."""

    kind: str
    columns: Mapping[str, tuple[str, bool, bool]]  # type, is required, has a default
    keys: tuple[tuple[str, ...], ...]  # of the primary key: none or one
    unique: frozenset[str]
    indexed: frozenset[str]
    primary_key: str | None


def plan(connection: Connection, schema: str, candidate: Candidate, fingerprint: Counted) -> TablePlan:
    """How the table of `candidate` has to change.

    Raises PublishError with the statement to run where a change would lose or reinterpret what is published.
    """
    found = _find(connection, schema, candidate.mart)
    if found is None:
        return _plan_new(schema, candidate)
    if found.kind not in ("r", "p"):
        raise PublishError(
            f"{schema}.{candidate.mart} is in the target, but not as a table",
            where=f"outputs.{candidate.mart}",
            fix="rename or drop it there, or publish into another DATABASE_SCHEMA",
        )
    _refuse(connection, schema, candidate, found, fingerprint)
    return _plan_existing(schema, candidate, found)


def _plan_new(schema: str, candidate: Candidate) -> TablePlan:
    table = sql.Identifier(schema, candidate.mart)
    columns = [
        sql.SQL("{} " + column.postgres_type + (" not null" if column.is_required else "")).format(
            sql.Identifier(column.name)
        )
        for column in candidate.columns
    ]
    columns += [sql.SQL("{} timestamptz not null default now()").format(sql.Identifier(name)) for name in ADDED_COLUMNS]
    # A changed row that finds room on its page leaves the indexes alone: half the time of an update, and no bloat.
    create = sql.SQL("create table {} ({}) with (fillfactor = 90)").format(table, sql.SQL(", ").join(columns))
    # The rows come first: an index over rows that are there is made faster than one that grows with them.
    primary_key = sql.SQL("alter table {} add constraint {} primary key ({})").format(
        table, sql.Identifier(fit_name(candidate.mart, "pkey")), _columns(candidate.output.key)
    )
    after = (primary_key, *_unique_and_indexes(schema, candidate, frozenset(), frozenset()))
    return TablePlan(True, {column.name: column.postgres_type for column in candidate.columns}, (create,), after)


def _plan_existing(schema: str, candidate: Candidate, found: _Found) -> TablePlan:
    table = sql.Identifier(schema, candidate.mart)
    before, after = [], []
    for column in candidate.columns:
        name = sql.Identifier(column.name)
        if column.name not in found.columns:
            before.append(sql.SQL("alter table {} add column {} " + column.postgres_type).format(table, name))
        elif column.postgres_type in _wider_than(found.columns[column.name][0]):
            before.append(sql.SQL("alter table {} alter column {} type " + column.postgres_type).format(table, name))
        if column.is_required and not found.columns.get(column.name, ("", False, False))[1]:
            after.append(sql.SQL("alter table {} alter column {} set not null").format(table, name))
    for added in ADDED_COLUMNS:
        name = sql.Identifier(added)
        if added not in found.columns:
            clause = sql.SQL("alter table {} add column {} timestamptz not null default now()")
            before.append(clause.format(table, name))
        elif not found.columns[added][2]:
            before.append(sql.SQL("alter table {} alter column {} set default now()").format(table, name))
    after += _unique_and_indexes(schema, candidate, found.unique, found.indexed)
    types = {column.name: _type_after(column, found) for column in candidate.columns}
    return TablePlan(False, types, tuple(before), tuple(after))


def _type_after(column: Column, found: _Found) -> str:
    there = found.columns[column.name][0] if column.name in found.columns else column.postgres_type
    return column.postgres_type if column.postgres_type in _wider_than(there) else there


def _wider_than(there: str) -> set[str]:
    """The types that take every value of a column's type."""
    return {wider for wider, narrower in _WIDER.items() if there in narrower and wider != "character varying"}


def _unique_and_indexes(
    schema: str, candidate: Candidate, unique: frozenset[str], indexed: frozenset[str]
) -> list[sql.Composed]:
    table = sql.Identifier(schema, candidate.mart)
    # Deferrable: it is checked when a statement ends and not row by row, so that two rows can swap their values.
    constraint = sql.SQL("alter table {} add constraint {} unique ({}) deferrable initially immediate")
    index = sql.SQL("create index {} on {} ({})")
    made = [
        constraint.format(table, sql.Identifier(fit_name(candidate.mart, column, "key")), sql.Identifier(column))
        for column in candidate.output.unique
        if column not in unique
    ]
    made += [
        index.format(sql.Identifier(fit_name(candidate.mart, column, "idx")), table, sql.Identifier(column))
        for column in candidate.output.indexes
        if column not in indexed and column not in candidate.output.unique
    ]
    return made


def _refuse(connection: Connection, schema: str, candidate: Candidate, found: _Found, fingerprint: Counted) -> None:
    """Raises PublishError that lists all that stands in the way, and the one statement that clears it."""
    reasons: list[str] = []
    actions: list[sql.Composable] = []
    wanted = {column.name: column for column in candidate.columns}
    for name, (there, is_required, _) in found.columns.items():
        if name in ADDED_COLUMNS:
            continue
        identifier = sql.Identifier(name)
        if name not in wanted:
            reasons.append(f"column {name} has left the mart")
            actions.append(sql.SQL("drop column {}").format(identifier))
            continue
        new = wanted[name].postgres_type
        is_wider = new in _wider_than(there)
        views = _views_on(connection, schema, candidate.mart, name) if is_wider else []
        if there != new and new not in _WIDER.get(there, ()) and (views or not is_wider):
            used = f", and {', '.join(views)} uses it: drop that first and make it again after" if views else ""
            reasons.append(f"column {name} is {there} and became {new}{used}")
            actions.append(sql.SQL("alter column {0} type " + new + " using {0}::" + new).format(identifier))
        if is_required and not wanted[name].is_required and fingerprint()[f"values of {name}"] != fingerprint()["rows"]:
            reasons.append(f"column {name} is not null and the mart has nulls")
            actions.append(sql.SQL("alter column {} drop not null").format(identifier))
    key = tuple(candidate.output.key)
    if found.keys and set(found.keys[0]) != set(key):
        reasons.append(f"the key is ({', '.join(found.keys[0])}) and became ({', '.join(key)})")
        assert found.primary_key is not None
        actions.append(sql.SQL("drop constraint {}").format(sql.Identifier(found.primary_key)))
    if (not found.keys or set(found.keys[0]) != set(key)) and set(key) <= set(found.columns):
        if not found.keys:
            reasons.append("it has no primary key")
        actions.append(sql.SQL("add primary key ({})").format(_columns(key)))
    if not reasons:
        return
    statement = sql.SQL("alter table {} {}").format(sql.Identifier(schema, candidate.mart), sql.SQL(", ").join(actions))
    raise PublishError(
        f"the table {schema}.{candidate.mart} does not fit its mart: {'; '.join(reasons)}",
        where=f"outputs.{candidate.mart}",
        fix=f"change the model back, or run in the target: {statement.as_string(connection)}",
    )


def _views_on(connection: Connection, schema: str, mart: str, column: str) -> list[str]:
    """The views that a column's type cannot change under."""
    found = connection.execute(
        "select distinct v.oid::regclass::text from pg_depend as d join pg_rewrite as r on r.oid = d.objid"
        " join pg_class as v on v.oid = r.ev_class join pg_attribute as a on a.attrelid = d.refobjid"
        " and a.attnum = d.refobjsubid where d.classid = 'pg_rewrite'::regclass and v.oid <> d.refobjid"
        " and d.refobjid = to_regclass(%s) and a.attname = %s order by 1",
        [sql.Identifier(schema, mart).as_string(connection), column],
    ).fetchall()
    return [view for (view,) in found]


def _find(connection: Connection, schema: str, mart: str) -> _Found | None:
    row = connection.execute(
        "select c.oid, c.relkind from pg_class as c join pg_namespace as n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relname = %s",
        [schema, mart],
    ).fetchone()
    if row is None:
        return None
    oid, kind = row
    # A generated column is made from the others by the target; it is nobody's to fill.
    columns = connection.execute(
        "select attname, format_type(atttypid, atttypmod), attnotnull, atthasdef from pg_attribute"
        " where attrelid = %s and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
        [oid],
    ).fetchall()
    constraints = connection.execute(
        "select k.contype, k.conname, array_agg(a.attname::text order by a.attnum) from pg_constraint as k"
        " join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)"
        " where k.conrelid = %s and k.contype in ('p', 'u') group by 1, 2",
        [oid],
    ).fetchall()
    indexed = connection.execute(
        "select a.attname from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid"
        " and a.attnum = i.indkey[0] where i.indrelid = %s and i.indpred is null and i.indisvalid",
        [oid],
    ).fetchall()
    primary = [(name, tuple(names)) for kind_of, name, names in constraints if _text(kind_of) == "p"]
    return _Found(
        kind=_text(kind),
        columns={name: (type_name, required, default) for name, type_name, required, default in columns},
        keys=tuple(names for _, names in primary),
        unique=frozenset(n[0] for kind_of, _, n in constraints if _text(kind_of) == "u" and len(n) == 1),
        indexed=frozenset(name for (name,) in indexed),
        primary_key=primary[0][0] if primary else None,
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)  # Postgres' one-byte "char"


def _columns(names: list[str] | tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)
