"""What the warehouse remembers of the release that stands: key and hash of every row, so that only changes are sent.

A memory, not the truth: the target says which release it shows, and where that is another one, or the rows are hashed
otherwise, every row is sent and compared there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundation.failpoints import failpoint
from foundation.warehouse import quote_identifier, quote_literal
from publishing.candidates import MARTS, Candidate
from publishing.releases import Release, Standing

if TYPE_CHECKING:
    import duckdb

SCHEMA = "published"
HASH = "penstock_row_hash"
MOST_HELD = 1_000_000  # changed rows that are set apart; more are looked up again where they are needed
NOTED = " noted"  # behind the name of a mart whose rows may be published soon


@dataclass(frozen=True)
class Changes:
    """How a candidate differs from the release that stands, as relations of the warehouse.

    `differing` has the rowids of candidate and memory for every row that only one of them has, `changed` the
    candidate's rows among them, `then` the keys of the remembered ones, `gone` those of them that it lacks.
    """

    differing: str
    changed: str
    then: str
    gone: str
    rows_changed: int
    rows_gone: int

    @property
    def is_empty(self) -> bool:
        """Whether the candidate is what was published."""
        return not (self.rows_changed or self.rows_gone)


def ensure(warehouse: "duckdb.DuckDBPyConnection") -> None:
    """Make the place of what is remembered."""
    warehouse.execute(f"create schema if not exists {SCHEMA}")
    warehouse.execute(
        f"create table if not exists {SCHEMA}.releases (mart varchar, release varchar, signature varchar)"
    )


def known_marts(warehouse: "duckdb.DuckDBPyConnection", marts: Mapping[str, Candidate], stands: Standing) -> set[str]:
    """The marts whose published rows the warehouse remembers as they are in the release that stands."""
    remembered = dict(
        warehouse.execute(
            f"select mart, signature from {SCHEMA}.releases where release = ?", [stands.identity]
        ).fetchall()
    )
    # Rows are known by their place, which those of a view do not have.
    there, tables = (
        {name for (name,) in warehouse.execute(_TABLES, [schema]).fetchall()} for schema in (SCHEMA, MARTS)
    )
    return {
        mart
        for mart, candidate in marts.items()
        if mart in there and mart in tables and remembered.get(mart) == _signature(warehouse, candidate)
    }


def compare(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate) -> Changes:
    """The rows of a candidate that are new or other than those remembered, and the remembered keys that it lacks.

    Rows are compared by their hash, which covers the key; the few that differ are looked up by their place.
    """
    differing, changed, then, gone = (
        quote_identifier(f"{what} {candidate.mart}") for what in ("differing", "changed", "then", "gone")
    )
    memory, keys = _memory(candidate), _keys(candidate)
    warehouse.execute(
        f"create or replace temp table {differing} as select now_there.place as row_there, remembered.place as row_then"
        f" from (select rowid as place, {_hash(candidate)} as {HASH} from {candidate.relation}) as now_there"
        f" full join (select rowid as place, {HASH} from {memory}) as remembered using ({HASH})"
        " where now_there.place is null or remembered.place is null"
    )
    row = warehouse.execute(f"select count(row_there) from {differing}").fetchone()
    assert row is not None
    rows_changed = row[0]
    rows = f"select * from {candidate.relation} where rowid in ({_places(differing, 'row_there')})"
    if rows_changed <= MOST_HELD:
        warehouse.execute(f"create or replace temp table {changed} as {rows}")
    else:
        changed = f"({rows})"
    warehouse.execute(
        f"create or replace temp table {then} as"
        f" select {keys} from {memory} where rowid in ({_places(differing, 'row_then')})"
    )
    warehouse.execute(f"create or replace temp table {gone} as select * from {then} anti join {changed} using ({keys})")
    row = warehouse.execute(f"select count(*) from {gone}").fetchone()
    assert row is not None
    return Changes(differing, changed, then, gone, rows_changed, row[0])


def kept_rows(candidate: Candidate, changes: Changes) -> str:
    """The relation of the candidate's rows that are as they were."""
    return f"(select * from {candidate.relation} where rowid not in ({_places(changes.differing, 'row_there')}))"


def is_remembered(candidate: Candidate, changes: Changes) -> str:
    """SQL of whether a changed row's key was published before."""
    return f"({_keys(candidate)}) in (select ({_keys(candidate)}) from {changes.then})"


def _places(differing: str, side: str) -> str:
    return f"select {side} from {differing} where {side} is not null"


def note(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate) -> None:
    """Set down keys and hashes of all rows of a candidate, for when it is published."""
    warehouse.execute(f"create or replace table {_memory(candidate, NOTED)} as {_hashed(candidate)}")


def remember(
    warehouse: "duckdb.DuckDBPyConnection", stands: Release, marts: Mapping[str, tuple[Candidate, Changes | None]]
) -> None:
    """Take candidates for what the release that now stands shows; one without changes was noted whole."""
    warehouse.execute("begin")
    for candidate, changes in marts.values():
        memory = _memory(candidate)
        if changes is None:
            warehouse.execute(f"drop table if exists {memory}")
            noted, name = _memory(candidate, NOTED), quote_identifier(candidate.mart)
            warehouse.execute(f"alter table {noted} rename to {name}")
        elif not changes.is_empty:
            warehouse.execute(f"delete from {memory} where rowid in ({_places(changes.differing, 'row_then')})")
            warehouse.execute(f"insert into {memory} {_hashed(candidate, changes.changed)}")
    warehouse.execute(f"create or replace table {SCHEMA}.releases (mart varchar, release varchar, signature varchar)")
    warehouse.executemany(
        f"insert into {SCHEMA}.releases values (?, ?, ?)",
        [[mart, stands.identity, _signature(warehouse, candidate)] for mart, (candidate, _) in marts.items()],
    )
    failpoint("memory.before_commit")
    warehouse.execute("commit")


def _hash(candidate: Candidate) -> str:
    return f"hash({', '.join(column.quoted for column in candidate.columns)})"


def _hashed(candidate: Candidate, rows: str | None = None) -> str:
    return f"select {_keys(candidate)}, {_hash(candidate)} as {HASH} from {rows or candidate.relation}"


def _memory(candidate: Candidate, suffix: str = "") -> str:
    return f"{SCHEMA}.{quote_identifier(candidate.mart + suffix)}"


def _keys(candidate: Candidate) -> str:
    return ", ".join(_key_names(candidate))


def _key_names(candidate: Candidate) -> list[str]:
    return [quote_identifier(name) for name in candidate.output.key]


def _signature(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate) -> str:
    """What the hashes depend on: the columns, their types, the key, and DuckDB, whose hash may change."""
    columns = ", ".join(f"{column.quoted} {column.duckdb_type} {column.postgres_type}" for column in candidate.columns)
    row = warehouse.execute(f"select version() || {quote_literal(f'; {columns}; {_keys(candidate)}')}").fetchone()
    assert row is not None
    return str(row[0])


_TABLES = "select table_name from duckdb_tables() where schema_name = ?"
