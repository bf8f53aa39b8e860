"""What the warehouse remembers of the release that stands: key and hash of every row, so that only changes are sent.

A memory, not the truth: the target says which release it shows, and where that is another one, or the rows are hashed
otherwise, every row is sent and compared there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundation.warehouse import quote_identifier, quote_literal
from publishing.candidates import Candidate
from publishing.releases import Release, Standing

if TYPE_CHECKING:
    import duckdb

SCHEMA = "published"
HASH = "penstock_row_hash"
# Beyond this share of changed rows a new table is made sooner than an old one mended.
LARGEST_MENDED = 0.2


@dataclass(frozen=True)
class Changes:
    """How a candidate differs from the release that stands: tables of keys in the warehouse, and their rows."""

    changed: str
    gone: str
    rows_changed: int
    rows_gone: int

    @property
    def is_empty(self) -> bool:
        """Whether the candidate is what was published."""
        return not (self.rows_changed or self.rows_gone)


def known_marts(warehouse: "duckdb.DuckDBPyConnection", marts: Mapping[str, Candidate], stands: Standing) -> set[str]:
    """The marts whose published rows the warehouse remembers as they are in the release that stands."""
    warehouse.execute(f"create schema if not exists {SCHEMA}")
    warehouse.execute(
        f"create table if not exists {SCHEMA}.releases (mart varchar, release varchar, signature varchar)"
    )
    remembered = dict(
        warehouse.execute(
            f"select mart, signature from {SCHEMA}.releases where release = ?", [stands.identity]
        ).fetchall()
    )
    return {mart for mart, candidate in marts.items() if remembered.get(mart) == _signature(warehouse, candidate)}


def compare(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate) -> Changes:
    """The rows of a candidate that are new or other than those remembered, and the remembered ones it lacks."""
    changed, gone = quote_identifier(f"changed {candidate.mart}"), quote_identifier(f"gone {candidate.mart}")
    keys, memory = _keys(candidate), _memory(candidate)
    warehouse.execute(
        f"create or replace temp table {changed} as"
        f" select {keys}, now_there.{HASH}, remembered.{HASH} is null as is_new"
        f" from ({_hashed(candidate)}) as now_there left join {memory} as remembered using ({keys})"
        f" where remembered.{HASH} is distinct from now_there.{HASH}"
    )
    row = warehouse.execute(
        f"select count(*), count(*) filter (where is_new), (select count(*) from {memory}),"
        f" (select count(*) from {candidate.relation}) from {changed}"
    ).fetchone()
    assert row is not None
    rows_changed, rows_new, rows_remembered, rows_there = row
    rows_gone = rows_remembered + rows_new - rows_there
    lost = f"select {keys} from {memory} anti join {candidate.relation} using ({keys})" if rows_gone else None
    empty = f"select {keys} from {memory} limit 0"
    warehouse.execute(f"create or replace temp table {gone} as {lost or empty}")
    return Changes(changed, gone, rows_changed, rows_gone)


def changed_rows(candidate: Candidate, changes: Changes) -> str:
    """The relation of the candidate's rows that are new or changed."""
    return f"{candidate.relation} semi join {changes.changed} using ({_keys(candidate)})"


def kept_rows(candidate: Candidate, changes: Changes) -> str:
    """The relation of the candidate's rows that are as they were."""
    return f"{candidate.relation} anti join {changes.changed} using ({_keys(candidate)})"


def remember(
    warehouse: "duckdb.DuckDBPyConnection", stands: Release, marts: Mapping[str, tuple[Candidate, Changes | None]]
) -> None:
    """Take candidates for what the release that now stands shows; of one without changes all rows are noted anew."""
    warehouse.execute(f"create schema if not exists {SCHEMA}")
    warehouse.execute("begin")
    for candidate, changes in marts.values():
        _remember_rows(warehouse, candidate, changes)
    warehouse.execute(f"create or replace table {SCHEMA}.releases (mart varchar, release varchar, signature varchar)")
    warehouse.executemany(
        f"insert into {SCHEMA}.releases values (?, ?, ?)",
        [[mart, stands.identity, _signature(warehouse, candidate)] for mart, (candidate, _) in marts.items()],
    )
    warehouse.execute("commit")


def _remember_rows(warehouse: "duckdb.DuckDBPyConnection", candidate: Candidate, changes: Changes | None) -> None:
    memory, keys = _memory(candidate), _keys(candidate)
    if changes is not None:
        row = warehouse.execute(f"select count(*) from {memory}").fetchone()
        assert row is not None
        if changes.rows_changed + changes.rows_gone <= LARGEST_MENDED * row[0]:
            for table in (changes.changed, changes.gone):
                same = " and ".join(f"memory.{name} = other.{name}" for name in _key_names(candidate))
                warehouse.execute(f"delete from {memory} as memory using {table} as other where {same}")
            warehouse.execute(f"insert into {memory} select {keys}, {HASH} from {changes.changed}")
            return
    warehouse.execute(f"create or replace table {memory} as {_hashed(candidate)}")


def _hashed(candidate: Candidate) -> str:
    columns = ", ".join(column.quoted for column in candidate.columns)
    return f"select {_keys(candidate)}, hash({columns}) as {HASH} from {candidate.relation}"


def _memory(candidate: Candidate) -> str:
    return f"{SCHEMA}.{quote_identifier(candidate.mart)}"


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
