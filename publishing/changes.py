"""How a published table is made equal to what arrived beside it: the difference, its history, the change, the proof."""

from collections.abc import Iterable, Mapping
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
    # Rows that nobody published go first: a value of theirs that must be unique belongs to another row.
    elsewhere = [
        sql.SQL("not exists (select from {} as o where {})").format(table, mart.same_key("t", "o"))
        for table in (mart.kept, mart.delta)
    ]
    connection.execute(
        sql.SQL("delete from {published} as t where {elsewhere}").format(
            **parts, elsewhere=sql.SQL(" and ").join(elsewhere)
        )
    )
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


def apply(connection: Connection, mart: Mart, release_id: int, rows_total: int) -> tuple[MartDelta, Measures]:
    """Make the table equal to what arrived, touching only rows that differ; what they were goes into the history.

    Gives by how much that moved each measure too. Every row is looked up once: its page is at hand for all of it.
    """
    columns = (column.name for column in mart.candidate.columns)
    there = [sql.Identifier(name) for name in (*columns, *history.TIMES)]
    parts = {
        "published": mart.published,
        "delta": mart.delta,
        "action": sql.Identifier(ACTION),
        "same": mart.same_key("t", "d"),
        "names": mart.names,
        "history": history.table_of(mart.schema, mart.candidate.mart),
        "kept": sql.SQL(", ").join([*there, sql.Identifier(history.UNTIL)]),
        "release": sql.Literal(release_id),
        "measures": _measures(connection, mart),
    }
    connection.execute(sql.SQL("analyze {delta}").format(**parts))
    # Removed rows go first, so that a value that must be unique is free for the row that takes it over.
    removed = connection.execute(
        sql.SQL(
            "with gone as (delete from {published} as t using {delta} as d where d.{action} = 'removed' and {same}"
            " returning {replaced})"
            " insert into {history} ({kept}) select *, {release} from gone"
        ).format(**parts, replaced=_columns_of("t", there))
    ).rowcount
    new_values = [sql.SQL("{0} = d.{0}").format(sql.Identifier(column.name)) for column in mart.candidate.others]
    was = [sql.Identifier(f" {number}") for number in range(len(there))]  # no column of a mart is named so
    changed, *more = _fetch(
        connection,
        sql.SQL(
            "with came as (update {published} as t set {new_values} from {delta} as d join {published} as b on {old}"
            " where d.{action} = 'changed' and ({differs}) and t.ctid = b.ctid and t.tableoid = b.tableoid"
            " returning {replaced}, {present}),"
            " replaced as (insert into {history} ({kept}) select {was}, {release} from came)"
            " select count(*), {measures} from came"
        ).format(
            **parts,
            new_values=sql.SQL(", ").join([*new_values, sql.SQL("updated_at = now()")]),
            old=mart.same_key("b", "d"),
            differs=mart.differs("b", "d"),
            replaced=sql.SQL(", ").join(sql.SQL("b.{} as {}").format(*pair) for pair in zip(there, was, strict=True)),
            present=_columns_of("t", there),
            was=sql.SQL(", ").join(was),
        ),
    )
    added, *added_measures = _fetch(
        connection,
        sql.SQL(
            "with came as (insert into {published} ({names}, created_at, updated_at)"
            " select {names}, now(), now() from {delta} where {action} = 'added' returning {names})"
            " select count(*), {measures} from came"
        ).format(**parts),
    )
    less = _fetch(
        connection,
        sql.SQL("select {measures} from {history} where {until} = {release}").format(
            **parts, until=sql.Identifier(history.UNTIL)
        ),
    )
    moved = zip(names_of_measures(mart), more, added_measures, less, strict=True)
    made = {name: Decimal(one or 0) + Decimal(two or 0) - Decimal(three or 0) for name, one, two, three in moved}
    return MartDelta(added, changed, removed, rows_total), made


def measure(connection: Connection, mart: Mart) -> Measures:
    """Counts and sums over all published rows of a mart, and a checksum of them."""
    query = sql.SQL("select {} from {}").format(_measures(connection, mart), mart.published)
    found = _fetch(connection, query)
    return {name: Decimal(value or 0) for name, value in zip(names_of_measures(mart), found, strict=True)}


def names_of_measures(mart: Mart) -> list[str]:
    """What is measured of a mart."""
    return [*fingerprint_sql(mart.candidate, in_postgres=True), CHECKSUM]


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


def _measures(connection: Connection, mart: Mart) -> sql.Composed:
    """The aggregates of `names_of_measures`, over rows that have the columns of the mart."""
    # A sum of hashes does not depend on the order, and what is added and taken away adds up.
    if connection.info.server_version >= 140_000:
        checksum = sql.SQL("sum(hash_record_extended(row({}), 0))")
    else:
        checksum = sql.SQL("sum(hashtextextended(row({})::text, 0))")
    expressions = [sql.SQL(expression) for expression in fingerprint_sql(mart.candidate, in_postgres=True).values()]
    return sql.SQL(", ").join([*expressions, checksum.format(mart.names)])


def _columns_of(table: str, columns: Iterable[sql.Identifier]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.Identifier(table), column) for column in columns)


def _fetch(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None
    return row
