"""How a published table is made equal to what arrived beside it: the difference, its history, the change, the proof."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import sql

from foundation.errors import PublishError
from publishing import history
from publishing.candidates import Candidate, fingerprint_sql
from publishing.releases import MartDelta, Measures
from publishing.target import Connection

ACTION = "penstock_action"  # added, changed or removed, in the table of differences
CHECKSUM = "checksum"  # the one measure that only Postgres can compute


@dataclass(frozen=True)
class Mart:
    """A mart in the target: its table, and the temporary ones beside it."""

    schema: str
    candidate: Candidate

    @property
    def published(self) -> sql.Identifier:
        """The table that readers see."""
        return sql.Identifier(self.schema, self.candidate.mart)

    @property
    def arrived(self) -> sql.Identifier:
        """Rows that came over."""
        return sql.Identifier("pg_temp", self.candidate.mart)

    @property
    def delta(self) -> sql.Identifier:
        """What differs, with the action that mends it."""
        return sql.Identifier("pg_temp", f"d {self.candidate.mart}")

    @property
    def kept(self) -> sql.Identifier:
        """Rows that are as they were in the release that stands."""
        return sql.Identifier("pg_temp", f"k {self.candidate.mart}")

    @property
    def names(self) -> sql.Composed:
        """All columns of the mart."""
        return sql.SQL(", ").join(sql.Identifier(column.name) for column in self.candidate.columns)

    def same_key(self, one: str, other: str) -> sql.Composed:
        """Whether two rows have one key."""
        return sql.SQL(" and ").join(
            sql.SQL("{0}.{2} = {1}.{2}").format(sql.Identifier(one), sql.Identifier(other), sql.Identifier(name))
            for name in self.candidate.output.key
        )

    def differs(self, one: str, other: str) -> sql.Composed:
        """Whether two rows with one key differ in another column."""
        parts = [
            sql.SQL("{0}.{2} is distinct from {1}.{2}").format(
                sql.Identifier(one), sql.Identifier(other), sql.Identifier(column.name)
            )
            for column in self.candidate.others
        ]
        return sql.SQL(" or ").join(parts) if parts else sql.SQL("false").format()


def make_temporary(connection: Connection, table: sql.Identifier, types: Mapping[str, str]) -> None:
    """An empty table that goes when the transaction ends."""
    columns = [sql.SQL("{} " + kind).format(sql.Identifier(name)) for name, kind in types.items()]
    connection.execute(
        sql.SQL("create temporary table {} ({}) on commit drop").format(table, sql.SQL(", ").join(columns))
    )


def find_all(connection: Connection, mart: Mart) -> None:
    """The difference where every row of the mart has arrived."""
    # Its own table, and not a MERGE, so that one path serves every version of Postgres at the same cost, and each
    # kind of change is a set of keys.
    keys = [sql.SQL("coalesce(s.{0}, t.{0}) as {0}").format(sql.Identifier(name)) for name in mart.candidate.output.key]
    others = [sql.SQL("s.{}").format(sql.Identifier(column.name)) for column in mart.candidate.others]
    connection.execute(
        sql.SQL(
            "create temporary table {delta} on commit drop as select"
            " case when t.{key} is null then 'added' when s.{key} is null then 'removed' else 'changed' end"
            " as {action}, {columns} from {arrived} as s full join {published} as t on {same}"
            " where t.{key} is null or s.{key} is null or {differs}"
        ).format(
            delta=mart.delta,
            key=sql.Identifier(mart.candidate.output.key[0]),
            action=sql.Identifier(ACTION),
            columns=sql.SQL(", ").join([*keys, *others]),
            arrived=mart.arrived,
            published=mart.published,
            same=mart.same_key("s", "t"),
            differs=mart.differs("t", "s"),
        )
    )


def put_right(connection: Connection, mart: Mart, stands_since: datetime) -> None:
    """Undo what others did to the table, as far as the rows that have not changed since the release show it.

    No release made these differences, so they leave no trace in the history and in `updated_at`.
    """
    parts = {"published": mart.published, "kept": mart.kept, "names": mart.names, "moment": sql.Literal(stands_since)}
    new_values = [sql.SQL("{0} = k.{0}").format(sql.Identifier(column.name)) for column in mart.candidate.others]
    if new_values:
        connection.execute(
            sql.SQL("update {published} as t set {new_values} from {kept} as k where {same} and ({differs})").format(
                **parts,
                new_values=sql.SQL(", ").join(new_values),
                same=mart.same_key("t", "k"),
                differs=mart.differs("t", "k"),
            )
        )
    connection.execute(
        sql.SQL(
            "insert into {published} ({names}, created_at, updated_at) select {names}, {moment}, {moment}"
            " from {kept} as k where not exists (select from {published} as t where {same})"
        ).format(**parts, same=mart.same_key("t", "k"))
    )
    elsewhere = [
        sql.SQL("not exists (select from {} as o where {})").format(table, mart.same_key("t", "o"))
        for table in (mart.kept, mart.delta)
    ]
    connection.execute(
        sql.SQL("delete from {published} as t where {elsewhere}").format(
            **parts, elsewhere=sql.SQL(" and ").join(elsewhere)
        )
    )


def apply(connection: Connection, mart: Mart, release_id: int, rows_total: int) -> MartDelta:
    """Make the table equal to what arrived, touching only rows that differ; what they were goes into the history."""
    parts = {
        "published": mart.published,
        "delta": mart.delta,
        "action": sql.Identifier(ACTION),
        "same": mart.same_key("t", "d"),
        "names": mart.names,
        "differs": mart.differs("t", "d"),
    }
    connection.execute(sql.SQL("analyze {delta}").format(**parts))
    replaced = sql.SQL(", ").join(
        sql.SQL("t.{}").format(sql.Identifier(name))
        for name in (*(column.name for column in mart.candidate.columns), *history.TIMES)
    )
    connection.execute(
        sql.SQL(
            "insert into {history} ({names}, {times}, {until}) select {replaced}, {release}"
            " from {published} as t join {delta} as d on {same}"
            " where d.{action} = 'removed' or d.{action} = 'changed' and ({differs})"
        ).format(
            **parts,
            history=history.table_of(mart.schema, mart.candidate.mart),
            times=sql.SQL(", ").join(map(sql.Identifier, history.TIMES)),
            until=sql.Identifier(history.UNTIL),
            replaced=replaced,
            release=sql.Literal(release_id),
        )
    )
    # Removed rows go first, so that a value that must be unique is free for the row that takes it over.
    removed = connection.execute(
        sql.SQL("delete from {published} as t using {delta} as d where d.{action} = 'removed' and {same}").format(
            **parts
        )
    ).rowcount
    new_values = [sql.SQL("{0} = d.{0}").format(sql.Identifier(column.name)) for column in mart.candidate.others]
    changed = connection.execute(
        sql.SQL(
            "update {published} as t set {new_values} from {delta} as d"
            " where d.{action} = 'changed' and {same} and ({differs})"
        ).format(**parts, new_values=sql.SQL(", ").join([*new_values, sql.SQL("updated_at = now()")]))
    ).rowcount
    added = connection.execute(
        sql.SQL(
            "insert into {published} ({names}, created_at, updated_at)"
            " select {names}, now(), now() from {delta} where {action} = 'added'"
        ).format(**parts)
    ).rowcount
    return MartDelta(added, changed, removed, rows_total)


def measure(connection: Connection, mart: Mart) -> Measures:
    """Counts and sums over all published rows of a mart, and a checksum of them."""
    return _measured(connection, mart, sql.SQL("{}").format(mart.published))


def measure_after(connection: Connection, mart: Mart, before: Measures, release_id: int) -> Measures:
    """The same after a change, from what it was before, the rows that were replaced and those that took their place."""
    replaced = sql.SQL("(select * from {} where {} = {}) as t").format(
        history.table_of(mart.schema, mart.candidate.mart), sql.Identifier(history.UNTIL), sql.Literal(release_id)
    )
    # What this transaction has written bears its time.
    came = sql.SQL("(select t.* from {} as t join {} as d on {} where t.updated_at = now()) as t").format(
        mart.published, mart.delta, mart.same_key("t", "d")
    )
    less, more = _measured(connection, mart, replaced), _measured(connection, mart, came)
    return {name: before[name] - less[name] + more[name] for name in more}


def names_of_measures(mart: Mart) -> set[str]:
    """What is measured of a mart."""
    return {*fingerprint_sql(mart.candidate, in_postgres=True), CHECKSUM}


def are_alike(one: Measures, other: Measures) -> bool:
    """Whether all that was measured of both is the same."""
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def check(mart: Mart, found: Measures, wanted: Mapping[str, Any]) -> None:
    """Compare what the transaction would publish with the candidate; whatever lost or bent a row on the way shows."""
    for name, value in wanted.items():
        if found[name] != (value or 0):
            raise PublishError(
                f"{name}: the mart has {value}, the table would have {found[name]}",
                where=f"{mart.schema}.{mart.candidate.mart}",
                fix="look for two rows with one key, or triggers, rules and policies on the table; nothing was changed",
            )


def _measured(connection: Connection, mart: Mart, rows: sql.Composed) -> Measures:
    measures = fingerprint_sql(mart.candidate, in_postgres=True)
    # A sum of hashes does not depend on the order, and what is added and taken away adds up.
    if connection.info.server_version >= 140_000:
        checksum = sql.SQL("sum(hash_record_extended(row({}), 0))")
    else:
        checksum = sql.SQL("sum(hashtextextended(row({})::text, 0))")
    expressions = [sql.SQL(expression) for expression in measures.values()]
    row = connection.execute(
        sql.SQL("select {} from {}").format(sql.SQL(", ").join([*expressions, checksum.format(mart.names)]), rows)
    ).fetchone()
    assert row is not None
    return {name: Decimal(value or 0) for name, value in zip([*measures, CHECKSUM], row, strict=True)}
