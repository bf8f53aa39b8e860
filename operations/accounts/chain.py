"""The ledger tables of the books, chained: each entry bears a hash over itself and the entry before it.

An entry that is altered, taken out, put in or moved later no longer fits its hash or that of the next. The end of the
chain is noted outside of the warehouse too, so that entries that are cut off there are missed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from foundation.queries import fetch_dicts, read_tables

# One row per run, source and partition; per run and candidate mart; per closing of the books of a run, after these;
# per run and published mart. A run that is closed again adds its rows again: the later ones count.
TABLES = """
    create table if not exists ops.books (
        entry_number bigint not null, run_id varchar not null, source varchar not null, partition varchar,
        records_read bigint not null, records_loaded bigint not null, records_dead_lettered bigint not null,
        records_skipped bigint not null, count_accepted bigint not null, count_duplicate bigint not null,
        count_rejected bigint not null, checksum_loaded varchar, checksum_dead_lettered varchar,
        checksum_judged varchar, is_balanced boolean not null,
        previous_hash varchar not null, entry_hash varchar not null
    );
    create table if not exists ops.candidate_books (
        entry_number bigint not null, run_id varchar not null, mart varchar not null,
        count_candidates bigint not null, checksum_candidates varchar not null,
        count_before bigint, count_accepted bigint, count_removed bigint,
        checksum_accepted varchar, checksum_keys varchar, is_balanced boolean not null,
        previous_hash varchar not null, entry_hash varchar not null
    );
    alter table ops.candidate_books add column if not exists count_unknown bigint;
    create table if not exists ops.closings (
        entry_number bigint not null, run_id varchar not null, closed_at timestamptz not null, as_of date not null,
        switches varchar not null, git_commit varchar, models_hash varchar not null, duckdb_version varchar not null,
        count_loads bigint not null, checksum_loads varchar not null, is_balanced boolean not null,
        previous_hash varchar not null, entry_hash varchar not null
    );
    create table if not exists ops.mart_books (
        entry_number bigint not null, run_id varchar not null, mart varchar not null,
        count_candidates bigint not null, count_published bigint not null, release_id bigint, measures varchar,
        is_balanced boolean not null,
        previous_hash varchar not null, entry_hash varchar not null
    );
"""
CHAINED = ("books", "candidate_books", "closings", "mart_books")
START = "0" * 64  # stands for the hash before the first entry
_OF_OLD = ("books", "mart_books")  # those of ledgers without a chain
_ROWS_AT_ONCE = 100

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Link:
    """The place and the hash of an entry, and the run of the first entry, which tells one ledger from another."""

    entry_number: int = 0
    entry_hash: str = START
    first_run: str = ""

    def follow(self, entry_number: int, entry_hash: str, run_id: str) -> "Link":
        """The link of an entry that comes after this one."""
        return Link(entry_number, entry_hash, self.first_run or run_id)


@dataclass(frozen=True)
class Note:
    """The link that was the newest when it was written down in `place`, outside of the warehouse."""

    place: str
    link: Link


@dataclass(frozen=True)
class Verdict:
    """What checking the chain came to: the last entry that fits, and what is wrong with the first that does not.

    `compared` and `foreign` are the places of the notes that are of this ledger, and of another one.
    """

    newest: Link
    flaw: str = ""
    compared: Sequence[str] = ()
    foreign: Sequence[str] = ()


def widen(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables; what a ledger of an older version holds becomes the start of the chain, run by run."""
    there = read_tables(connection)
    old = [table for table in _OF_OLD if there.has(f"ops.{table}") and not there.has(f"ops.{table}", "entry_number")]
    if not old:
        connection.execute(TABLES)
        return
    connection.execute("begin")
    entries = []
    for table in old:
        entries += [(table, row) for row in fetch_dicts(connection, f"select * from ops.{table}")]
        connection.execute(f"drop table ops.{table}")
    connection.execute(TABLES)
    # The id of a run begins with its time.
    append(connection, sorted(entries, key=lambda entry: (entry[1]["run_id"], entry[0])))
    connection.execute("commit")


def append(connection: duckdb.DuckDBPyConnection, entries: Sequence[tuple[str, Row]]) -> Link:
    """Add entries, each a table's name and its row, in this order; the newest link. The caller holds the transaction.

    Rows of one table have the same columns.
    """
    link = newest(connection)
    chained: dict[str, list[dict[str, Any]]] = {}
    for table, row in entries:
        entry = {"entry_number": link.entry_number + 1, **row, "previous_hash": link.entry_hash}
        link = link.follow(entry["entry_number"], _hash(table, entry), entry["run_id"])
        chained.setdefault(table, []).append({**entry, "entry_hash": link.entry_hash})
    for table, rows in chained.items():
        columns = ", ".join(rows[0])
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[first : first + _ROWS_AT_ONCE]
            places = ", ".join(f"({', '.join('?' for _ in row)})" for row in some)
            values = [value for row in some for value in row.values()]
            connection.execute(f"insert into ops.{table} ({columns}) values {places}", values)
    return link


def newest(connection: duckdb.DuckDBPyConnection) -> Link:
    """The last link; that of no entry where there is none."""
    entries = " union all ".join(f"select entry_number, entry_hash, run_id from ops.{table}" for table in CHAINED)
    row = connection.execute(
        "select max(entry_number), arg_max(entry_hash, entry_number), arg_min(run_id, entry_number) "
        f"from ({entries}) having count(*) > 0"
    ).fetchone()
    return Link(*row) if row else Link()


def verify(connection: duckdb.DuckDBPyConnection | None, notes: Sequence[Note] = ()) -> Verdict:
    """Compute the chain anew from its first entry, and look for every noted link in it; None: there is no ledger."""
    last = Link()
    hashes: dict[int, str] = {}
    for table, row in _in_order(connection) if connection is not None else ():
        if flaw := _flaw(table, row, last):
            return Verdict(last, flaw)
        last = last.follow(row["entry_number"], row["entry_hash"], row["run_id"])
        hashes[last.entry_number] = last.entry_hash
    # Of a ledger that is gone nothing tells that a note is of another one.
    own = [note for note in notes if note.link.first_run == last.first_run or not hashes]
    for note in sorted(own, key=lambda note: note.link.entry_number):
        number = note.link.entry_number
        if number not in hashes:
            gone = f"the last entry is {last.entry_number}, but {note.place} notes entry {number}: the end is gone"
            return Verdict(last, gone)
        if hashes[number] != note.link.entry_hash:
            return Verdict(last, f"entry {number} is not the one that {note.place} notes: the books were written anew")
    return Verdict(last, "", [note.place for note in own], [note.place for note in notes if note not in own])


def _in_order(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, dict[str, Any]]]:
    entries = [(table, row) for table in CHAINED for row in fetch_dicts(connection, f"select * from ops.{table}")]
    yield from sorted(entries, key=lambda entry: entry[1]["entry_number"] or 0)


def _flaw(table: str, row: Row, last: Link) -> str:
    """What is wrong with an entry that should follow `last`."""
    number, due = row["entry_number"] or 0, last.entry_number + 1
    of = " ".join(filter(None, (row.get("run_id"), row.get("source") or row.get("mart"), row.get("partition"))))
    if number < due:
        return f"entry {number} is there twice; one of them (ops.{table}, {of}) was put in"
    if number > due:
        return f"entry {due} is gone; entry {number} (ops.{table}, {of}) follows on entry {last.entry_number}"
    if row["entry_hash"] != _hash(table, row):
        return f"entry {number} (ops.{table}, {of}) was altered: it does not fit its hash"
    if row["previous_hash"] != last.entry_hash:
        return f"entry {number} (ops.{table}, {of}) does not follow on the entry before it, which was written anew"
    return ""


def _hash(table: str, entry: Row) -> str:
    """SHA-256 of the table and all columns that are not null, so that a column added later changes no hash."""
    values = {name: _plain(value) for name, value in entry.items() if value is not None and name != "entry_hash"}
    text = json.dumps([table, values], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value.isoformat() if isinstance(value, date) else value
