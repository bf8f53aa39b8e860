"""The ledger: what every run did, in the schema `ops` of the warehouse. Opened for each entry and closed again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from foundation.failpoints import failpoint
from foundation.warehouse import Warehouse, open_warehouse
from operations.accounts import chain
from operations.named_rows import keep_rows, name_rows

# One row per run, stage of a run, load in a balanced book, partition of a source that a run read, and expectation of a
# gate; per row that a check named when it was last judged. The tables of the books themselves are those of the chain.
_TABLES = """
    create schema if not exists ops;
    create table if not exists ops.runs (
        run_id varchar primary key, command varchar not null, started_at timestamptz not null,
        finished_at timestamptz, status varchar not null, exit_code integer, as_of date not null,
        release_id varchar, error varchar, summary varchar,
        attempts integer, sources varchar, settings_hash varchar, models_hash varchar, built_from varchar
    );
    create table if not exists ops.steps (
        run_id varchar not null, stage varchar not null, source varchar, status varchar not null,
        started_at timestamptz not null, finished_at timestamptz, counts varchar, error varchar, attempt integer
    );
    create table if not exists ops.booked_loads (
        load_id varchar primary key, run_id varchar not null, entry_number bigint
    );
    create table if not exists ops.partitions (
        run_id varchar not null, source varchar not null, partition varchar not null, place integer not null,
        state varchar not null, counts varchar, seconds double, error varchar,
        attempts integer, first_attempt_at timestamptz, last_attempt_at timestamptz,
        primary key (run_id, source, partition)
    );
    create table if not exists ops.gate_results (
        run_id varchar not null, gate varchar not null, suite varchar not null, expectation varchar not null,
        column_name varchar, severity varchar not null, is_success boolean not null, observed_value varchar,
        allowed varchar, count_elements bigint, count_unexpected bigint, samples varchar, notes varchar,
        checked_at timestamptz not null, count_named bigint
    );
    create table if not exists ops.gate_rows (
        gate varchar not null, suite varchar not null, expectation varchar not null, column_name varchar,
        sample varchar not null, attempts bigint not null, first_run_id varchar not null,
        first_seen timestamptz not null, run_id varchar not null, checked_at timestamptz not null
    );
"""

_OF_CHECKS = (
    "gate",
    "suite",
    "expectation",
    "column_name",
    "severity",
    "is_success",
    "observed_value",
    "allowed",
    "count_elements",
    "count_unexpected",
    "notes",
)
# Columns that tables of an older version lack; their rows have null there.
_ADDED = {
    "runs": {
        "attempts": "integer",
        "sources": "varchar",
        "settings_hash": "varchar",
        "models_hash": "varchar",
        "built_from": "varchar",
    },
    "steps": {"attempt": "integer"},
    "booked_loads": {"entry_number": "bigint"},
    "gate_results": {"count_named": "bigint"},
    "partitions": {"attempts": "integer", "first_attempt_at": "timestamptz", "last_attempt_at": "timestamptz"},
}


@contextmanager
def open_ledger(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse, with every table of the ledger there and as wide as it is now."""
    with open_warehouse(warehouse) as connection:
        widen(connection)
        yield connection


def widen(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of the ledger, or the columns that they lack."""
    connection.execute(_TABLES)
    there = set(
        connection.execute(
            "select table_name, column_name from information_schema.columns "
            "where table_catalog = current_database() and table_schema = 'ops'"
        ).fetchall()
    )
    for table, columns in _ADDED.items():
        for name, kind in columns.items():
            if (table, name) not in there:
                connection.execute(f"alter table ops.{table} add column {name} {kind}")


@dataclass(frozen=True)
class Step:
    """One stage of a run, as it ended."""

    stage: str
    status: str
    started_at: datetime
    finished_at: datetime
    counts: Mapping[str, int]
    error: str | None = None


@dataclass(frozen=True)
class Partition:
    """A partition of a source, or a whole source under no name, as an ingest left it.

    `attempted_at` is when this attempt at it began, None where it was not begun.
    """

    source: str
    name: str
    state: str
    counts: Mapping[str, int]
    seconds: float | None
    error: str | None = None
    attempted_at: datetime | None = None


@dataclass(frozen=True)
class Ledger:
    """The entries of one attempt at a run."""

    warehouse: Warehouse
    run_id: str
    attempt: int = 1

    def _open(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return open_ledger(self.warehouse)

    def start(
        self,
        command: str,
        started_at: datetime,
        as_of: date,
        sources: Sequence[str] = (),
        settings_hash: str | None = None,
    ) -> list[str]:
        """Enter the run; the ids of earlier runs that were cut off, now marked so. The caller holds the run lock."""
        with self._open() as connection:
            failpoint("ledger.opened")
            chain.widen(connection)
            cut_off = self._close_cut_off(connection, started_at)
            connection.execute(
                "insert into ops.runs (run_id, command, started_at, status, as_of, attempts, sources, settings_hash) "
                "values (?, ?, ?, 'running', ?, 1, ?, ?)",
                [self.run_id, command, started_at, as_of, json.dumps(list(sources)), settings_hash],
            )
        return cut_off

    def resume(self, started_at: datetime, settings_hash: str) -> list[str]:
        """Enter one more attempt at the run; otherwise as `start`."""
        with self._open() as connection:
            cut_off = self._close_cut_off(connection, started_at)
            connection.execute(
                "update ops.runs set status = 'running', finished_at = null, exit_code = null, error = null, "
                "attempts = ?, settings_hash = ? where run_id = ?",
                [self.attempt, settings_hash, self.run_id],
            )
        return [run_id for run_id in cut_off if run_id != self.run_id]

    def _close_cut_off(self, connection: duckdb.DuckDBPyConnection, at: datetime) -> list[str]:
        found = connection.execute("select run_id from ops.runs where status = 'running'").fetchall()
        connection.execute("update ops.runs set status = 'interrupted', finished_at = ? where status = 'running'", [at])
        return [run_id for (run_id,) in found]

    def note_candidates(self, models_hash: str | None, built_from: Mapping[str, Any] | None = None) -> None:
        """Enter of which models the candidate marts of the run are; None while they are not those of its raw.

        `built_from` is what the books tell of them, by the fields of Provenance.
        """
        values = [models_hash, json.dumps(built_from, sort_keys=True) if built_from else None, self.run_id]
        with self._open() as connection:
            connection.execute("update ops.runs set models_hash = ?, built_from = ? where run_id = ?", values)

    def finish(
        self, status: str, exit_code: int, *, release_id: str | None, error: str | None, summary: Mapping[str, Any]
    ) -> None:
        """Close the run's entry; what an attempt before has published stays published."""
        with self._open() as connection:
            connection.execute(
                "update ops.runs set status = ?, exit_code = ?, finished_at = ?, release_id = coalesce(?, release_id), "
                "error = ?, summary = ? where run_id = ?",
                [
                    status,
                    exit_code,
                    datetime.now(UTC),
                    release_id,
                    error,
                    json.dumps(summary, default=str),
                    self.run_id,
                ],
            )

    def add_step(self, step: Step) -> None:
        """Enter a stage that ended."""
        with self._open() as connection:
            connection.execute(
                "insert into ops.steps (run_id, stage, status, started_at, finished_at, counts, error, attempt) "
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    self.run_id,
                    step.stage,
                    step.status,
                    step.started_at,
                    step.finished_at,
                    json.dumps(dict(step.counts)),
                    step.error,
                    self.attempt,
                ],
            )

    def plan_partitions(self, partitions: Sequence[tuple[str, str]]) -> None:
        """Enter what an ingest will read: source and partition, in this order; one of an earlier attempt waits anew."""
        if not partitions:
            return
        with self._open() as connection:
            found = "select source, partition from ops.partitions where run_id = ?"
            there = set(connection.execute(found, [self.run_id]).fetchall()) if self.attempt > 1 else set()
            new = [[self.run_id, *each, place] for place, each in enumerate(partitions) if each not in there]
            again = [[self.run_id, *each] for each in partitions if each in there]
            with _at_once(connection):
                if new:
                    connection.executemany(
                        "insert into ops.partitions (run_id, source, partition, place, state) "
                        "values (?, ?, ?, ?, 'waiting')",
                        new,
                    )
                if again:
                    connection.executemany(
                        "update ops.partitions set state = 'waiting' where run_id = ? and source = ? and partition = ?",
                        again,
                    )

    def finish_partitions(self, partitions: Sequence[Partition]) -> None:
        """Enter how each partition ended."""
        rows = [
            [
                each.state,
                json.dumps(dict(each.counts)),
                each.seconds,
                each.error,
                each.attempted_at is not None,
                each.attempted_at,
                each.attempted_at,
                self.run_id,
                each.source,
                each.name,
            ]
            for each in partitions
        ]
        if rows:
            with self._open() as connection, _at_once(connection):
                connection.executemany(
                    "update ops.partitions set state = ?, counts = ?, seconds = ?, error = ?, "
                    "attempts = coalesce(attempts, 0) + ?::integer, first_attempt_at = coalesce(first_attempt_at, ?), "
                    "last_attempt_at = coalesce(?, last_attempt_at) "
                    "where run_id = ? and source = ? and partition = ?",
                    rows,
                )

    def add_checks(self, checks: Sequence[Mapping[str, Any]], checked_at: datetime) -> None:
        """Enter the results of a gate, a row for each expectation, in place of those of an earlier attempt."""
        if not checks:
            return
        gates = sorted({check["gate"] for check in checks})
        names = (*_OF_CHECKS, "run_id", "samples", "checked_at", "count_named")
        with self._open() as connection:
            named = name_rows(connection, self.run_id, checks, checked_at)
            with _at_once(connection):
                keep_rows(connection, gates)
                if self.attempt > 1:
                    connection.execute(
                        "delete from ops.gate_results where run_id = ? and list_contains(?::varchar[], gate)",
                        [self.run_id, gates],
                    )
                connection.executemany(
                    f"insert into ops.gate_results ({', '.join(names)}) values ({', '.join('?' for _ in names)})",
                    [
                        [
                            *(check[name] for name in _OF_CHECKS),
                            self.run_id,
                            json.dumps(check["samples"], default=str),
                            checked_at,
                            count,
                        ]
                        for check, count in zip(checks, named, strict=True)
                    ],
                )


@contextmanager
def _at_once(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One transaction: all of it or nothing. After an error the connection, when it is closed, undoes it."""
    connection.execute("begin")
    yield
    connection.execute("commit")


def read_partitions(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Every partition as the last run that had it left it, by source and in the order of reading."""
    if not warehouse.exists():
        return []
    with open_ledger(warehouse) as connection:
        found = connection.execute(
            """
            select
                source, partition, place,
                case when state = 'waiting' and runs.status <> 'running' then 'interrupted' else state end as state,
                counts, seconds, partitions.error, run_id
            from ops.partitions as partitions inner join ops.runs as runs using (run_id)
            qualify row_number() over (partition by source, partition order by runs.started_at desc) = 1
            order by source, place
            """
        )
        names = [column[0] for column in found.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [row | {"counts": json.loads(row["counts"] or "{}")} for row in rows]


def read_runs(warehouse: Warehouse, limit: int) -> list[dict[str, Any]]:
    """The last runs, newest first; none when there is no ledger yet."""
    if not warehouse.exists():
        return []
    with open_ledger(warehouse) as connection:
        found = connection.execute(
            "select run_id, command, started_at, finished_at, status, exit_code, release_id, error, "
            "coalesce(attempts, 1) as attempts, summary from ops.runs order by started_at desc, run_id desc limit ?",
            [limit],
        )
        names = [column[0] for column in found.description or []]
        runs = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [run | {"summary": json.loads(run["summary"] or "{}")} for run in runs]
