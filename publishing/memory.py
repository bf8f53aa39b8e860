"""What the warehouse remembers of the release that stands: key and hash of every row, so that only changes are sent.

A memory, not the truth: the target says which release it shows, and where that is another one, or the rows are hashed
otherwise, every row is sent and compared there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from foundation.attaching import CATALOG
from foundation.failpoints import failpoint
from foundation.warehouse import PostgresWarehouse, Warehouse, quote_identifier
from publishing.candidates import MARTS, Candidate
from publishing.releases import Release, Standing
from publishing.target import fit_name

SCHEMA = "published"
HASH = "penstock_row_hash"
MOST_HELD = 1_000_000  # changed rows that are set apart; more are looked up again where they are needed
NOTED = " noted"  # behind the name of a mart whose rows may be published soon


@dataclass(frozen=True)
class Changes:
    """How a candidate differs from the release that stands, as relations of the warehouse.

    `changed` has the candidate's rows that are new or other, `then` the remembered keys whose rows are no more as they
    were, `gone` those of them that the candidate lacks.
    """

    changed: str
    then: str
    gone: str
    rows_changed: int
    rows_gone: int

    @property
    def is_empty(self) -> bool:
        """Whether the candidate is what was published."""
        return not (self.rows_changed or self.rows_gone)


class Memory:
    """What a DuckDB file remembers."""

    def __init__(self, warehouse: duckdb.DuckDBPyConnection) -> None:
        self._warehouse = warehouse
        warehouse.execute(f"create schema if not exists {SCHEMA}")
        warehouse.execute(
            f"create table if not exists {SCHEMA}.releases (mart varchar, release varchar, signature varchar)"
        )

    def known_marts(self, marts: Mapping[str, Candidate], stands: Standing) -> set[str]:
        """The marts whose published rows the warehouse remembers as they are in the release that stands."""
        remembered = dict(
            self._warehouse.execute(
                f"select mart, signature from {SCHEMA}.releases where release = ?", [stands.identity]
            ).fetchall()
        )
        comparable = self._comparable()
        return {
            mart
            for mart, candidate in marts.items()
            if mart in comparable and remembered.get(mart) == self._signature(candidate)
        }

    def compare(self, candidate: Candidate) -> Changes:
        """The rows of a candidate that are new or other than those remembered, and the remembered keys that it lacks.

        Rows are compared by their hash, which covers the key; the few that differ are looked up by their place.
        """
        differing, changed, then = (
            quote_identifier(f"{what} {candidate.mart}") for what in ("differing", "changed", "then")
        )
        memory = _memory(candidate)
        self._warehouse.execute(
            f"create or replace temp table {differing} as select now_there.place as row_there,"
            f" remembered.place as row_then from (select rowid as place, {_hash(candidate)} as {HASH}"
            f" from {candidate.relation}) as now_there"
            f" full join (select rowid as place, {HASH} from {memory}) as remembered using ({HASH})"
            " where now_there.place is null or remembered.place is null"
        )
        rows_changed = self._count(f"(from {differing} where row_there is not null)")
        rows = f"select * from {candidate.relation} where rowid in (select row_there from {differing})"
        if rows_changed <= MOST_HELD:
            self._warehouse.execute(f"create or replace temp table {changed} as {rows}")
        else:
            changed = f"({rows})"
        self._warehouse.execute(
            f"create or replace temp table {then} as select {_keys(candidate)} from {memory}"
            f" where rowid in (select row_then from {differing})"
        )
        return self._changes(candidate, changed, then, rows_changed)

    def note(self, warehouse: duckdb.DuckDBPyConnection, candidate: Candidate) -> None:
        """Set down keys and hashes of all rows of a candidate, for when it is published."""
        warehouse.execute(
            f"create or replace table {_memory(candidate, NOTED)} as {_hashed(candidate, candidate.relation)}"
        )

    def remember(self, stands: Release, marts: Mapping[str, tuple[Candidate, Changes | None]]) -> None:
        """Take candidates for what the release that now stands shows; one without changes was noted whole."""
        execute = self._warehouse.execute
        execute("begin")
        for candidate, changes in marts.values():
            if changes is None:
                execute(f"drop table if exists {_memory(candidate)}")
                execute(
                    f"alter table {_memory(candidate, NOTED)} rename to {quote_identifier(fit_name(candidate.mart))}"
                )
            elif not changes.is_empty:
                self._replace(candidate, changes)
        execute(f"delete from {SCHEMA}.releases")
        self._warehouse.executemany(
            f"insert into {SCHEMA}.releases values (?, ?, ?)",
            [[mart, stands.identity, self._signature(candidate)] for mart, (candidate, _) in marts.items()],
        )
        failpoint("memory.before_commit")
        execute("commit")

    def _comparable(self) -> set[str]:
        # Rows are known by their place, which those of a view do not have.
        there, tables = (
            {
                name
                for (name,) in self._warehouse.execute(
                    "select table_name from duckdb_tables() where schema_name = ?", [schema]
                ).fetchall()
            }
            for schema in (SCHEMA, MARTS)
        )
        return there & tables

    def _replace(self, candidate: Candidate, changes: Changes) -> None:
        memory, keys = _memory(candidate), _keys(candidate)
        self._warehouse.execute(f"delete from {memory} where ({keys}) in (select ({keys}) from {changes.then})")
        self._warehouse.execute(f"insert into {memory} {_hashed(candidate, changes.changed)}")

    def _changes(self, candidate: Candidate, changed: str, then: str, rows_changed: int) -> Changes:
        gone, keys = quote_identifier(f"gone {candidate.mart}"), _keys(candidate)
        self._warehouse.execute(
            f"create or replace temp table {gone} as select * from {then} anti join {changed} using ({keys})"
        )
        return Changes(changed, then, gone, rows_changed, self._count(gone))

    def _signature(self, candidate: Candidate) -> str:
        """What the hashes depend on: the columns, their types, the key, and the engine, whose hash may change."""
        columns = ", ".join(
            f"{column.quoted} {column.duckdb_type} {column.postgres_type}" for column in candidate.columns
        )
        return f"{self._engine()}; {columns}; {_keys(candidate)}"

    def _engine(self) -> str:
        return f"v{duckdb.__version__}"

    def _count(self, relation: str) -> int:
        row = self._warehouse.execute(f"select count(*) from {relation}").fetchone()
        assert row is not None
        return int(row[0])


class PostgresMemory(Memory):
    """What a Postgres warehouse remembers: hashed and compared there, so that only changes leave it."""

    def compare(self, candidate: Candidate) -> Changes:
        """As for a file. Rows are looked up by their key, as their places change with every build."""
        changed, then = (_memory(candidate, f" {what}") for what in ("changed", "then"))
        memory = _memory(candidate)
        same = " and ".join(f"n.{key} = r.{key}" for key in _key_names(candidate)) + f" and n.{HASH} = r.{HASH}"
        hashed = f"(select *, {_hash_in_postgres(candidate)} as {HASH} from {candidate.relation}) as n"
        first, names = _key_names(candidate)[0], ", ".join(f"n.{column.quoted}" for column in candidate.columns)
        self._in_postgres(
            f"drop table if exists {changed}, {then}",
            f"create unlogged table {changed} as select {names} from {hashed}"
            f" left join {memory} as r on {same} where r.{first} is null",
            f"create unlogged table {then} as select {', '.join(f'r.{key}' for key in _key_names(candidate))}"
            f" from {memory} as r left join {hashed} on {same} where n.{first} is null",
        )
        self._warehouse.execute("call pg_clear_cache()")
        return self._changes(candidate, changed, then, self._count(changed))

    def note(self, warehouse: duckdb.DuckDBPyConnection, candidate: Candidate) -> None:
        """As for a file."""
        noted = _memory(candidate, NOTED)
        self._in_postgres(
            f"drop table if exists {noted}", f"create table {noted} as {self._hashed(candidate, candidate.relation)}"
        )
        warehouse.execute("call pg_clear_cache()")

    def _comparable(self) -> set[str]:
        found = self._warehouse.execute(
            "select table_name from information_schema.tables where table_schema = ?", [SCHEMA]
        ).fetchall()
        return {name for (name,) in found}

    def _replace(self, candidate: Candidate, changes: Changes) -> None:
        memory, keys = _memory(candidate), _keys(candidate)
        self._in_postgres(
            f"delete from {memory} where ({keys}) in (select {keys} from {changes.then})",
            f"insert into {memory} {self._hashed(candidate, changes.changed)}",
            f"drop table {changes.changed}, {changes.then}",
        )

    def _engine(self) -> str:
        row = self._warehouse.execute(
            "select * from postgres_query(?, ?)", [CATALOG, "select current_setting('server_version_num') as version"]
        ).fetchone()
        assert row is not None
        return f"postgres {int(row[0]) // 10_000}"

    def _in_postgres(self, *statements: str) -> None:
        for statement in statements:
            self._warehouse.execute("call postgres_execute(?, ?)", [CATALOG, statement])

    @staticmethod
    def _hashed(candidate: Candidate, rows: str) -> str:
        return f"select {_keys(candidate)}, {_hash_in_postgres(candidate)} as {HASH} from {rows}"


def memory_of(warehouse: Warehouse, connection: duckdb.DuckDBPyConnection) -> Memory:
    """The memory of a warehouse that is open, made if need be."""
    return PostgresMemory(connection) if isinstance(warehouse, PostgresWarehouse) else Memory(connection)


def kept_rows(candidate: Candidate, changes: Changes) -> str:
    """The relation of the candidate's rows that are as they were."""
    return f"(select * from {candidate.relation} anti join {changes.changed} using ({_keys(candidate)}))"


def is_remembered(candidate: Candidate, changes: Changes) -> str:
    """SQL of whether a changed row's key was published before."""
    return f"({_keys(candidate)}) in (select ({_keys(candidate)}) from {changes.then})"


def _hash(candidate: Candidate) -> str:
    return f"hash({', '.join(column.quoted for column in candidate.columns)})"


def _hash_in_postgres(candidate: Candidate) -> str:
    # As text, because json has no hash of its own.
    return f"hashtextextended(row({', '.join(column.quoted for column in candidate.columns)})::text, 0)"


def _hashed(candidate: Candidate, rows: str) -> str:
    return f"select {_keys(candidate)}, {_hash(candidate)} as {HASH} from {rows}"


def _memory(candidate: Candidate, suffix: str = "") -> str:
    return f"{SCHEMA}.{quote_identifier(fit_name(candidate.mart + suffix))}"


def _keys(candidate: Candidate) -> str:
    return ", ".join(_key_names(candidate))


def _key_names(candidate: Candidate) -> list[str]:
    return [quote_identifier(name) for name in candidate.output.key]
