"""The ledger: what every run did, in the schema `ops` of the warehouse. Opened for each entry and closed again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from foundation.failpoints import failpoint
from foundation.warehouse import Warehouse, open_warehouse

# One row per run, stage of a run, source of a run, partition of a source that a run read, load in a balanced book,
# published mart of a run, and expectation of a gate.
_TABLES = """
    create schema if not exists ops;
    create table if not exists ops.runs (
        run_id varchar primary key, command varchar not null, started_at timestamptz not null,
        finished_at timestamptz, status varchar not null, exit_code integer, as_of date not null,
        release_id varchar, error varchar, summary varchar
    );
    create table if not exists ops.steps (
        run_id varchar not null, stage varchar not null, source varchar, status varchar not null,
        started_at timestamptz not null, finished_at timestamptz, counts varchar, error varchar
    );
    create table if not exists ops.books (
        run_id varchar not null, source varchar not null, records_read bigint not null,
        records_loaded bigint not null, records_dead_lettered bigint not null, records_skipped bigint not null,
        count_accepted bigint not null, count_duplicate bigint not null, count_rejected bigint not null,
        is_balanced boolean not null
    );
    create table if not exists ops.booked_loads (load_id varchar primary key, run_id varchar not null);
    create table if not exists ops.mart_books (
        run_id varchar not null, mart varchar not null, count_candidates bigint not null,
        count_published bigint not null, is_balanced boolean not null
    );
    create table if not exists ops.partitions (
        run_id varchar not null, source varchar not null, partition varchar not null, place integer not null,
        state varchar not null, counts varchar, seconds double, error varchar,
        primary key (run_id, source, partition)
    );
    create table if not exists ops.gate_results (
        run_id varchar not null, gate varchar not null, suite varchar not null, expectation varchar not null,
        column_name varchar, severity varchar not null, is_success boolean not null, observed_value varchar,
        allowed varchar, count_elements bigint, count_unexpected bigint, samples varchar, notes varchar,
        checked_at timestamptz not null
    );
"""


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
    """A partition of a source, or a whole source under no name, as an ingest left it."""

    source: str
    name: str
    state: str
    counts: Mapping[str, int]
    seconds: float | None
    error: str | None = None


@dataclass(frozen=True)
class Ledger:
    """The entries of one run."""

    warehouse: Warehouse
    run_id: str

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with open_warehouse(self.warehouse) as connection:
            connection.execute(_TABLES)
            yield connection

    def start(self, command: str, started_at: datetime, as_of: date) -> list[str]:
        """Enter the run; the ids of earlier runs that were cut off, now marked so. The caller holds the run lock."""
        with self._open() as connection:
            failpoint("ledger.opened")
            cut_off = connection.execute("select run_id from ops.runs where status = 'running'").fetchall()
            connection.execute(
                "update ops.runs set status = 'interrupted', finished_at = ? where status = 'running'", [started_at]
            )
            connection.execute(
                "insert into ops.runs (run_id, command, started_at, status, as_of) values (?, ?, ?, 'running', ?)",
                [self.run_id, command, started_at, as_of],
            )
        return [run_id for (run_id,) in cut_off]

    def finish(
        self, status: str, exit_code: int, *, release_id: str | None, error: str | None, summary: Mapping[str, Any]
    ) -> None:
        """Close the run's entry."""
        with self._open() as connection:
            connection.execute(
                "update ops.runs set status = ?, exit_code = ?, finished_at = ?, release_id = ?, error = ?, "
                "summary = ? where run_id = ?",
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
                "insert into ops.steps values (?, ?, null, ?, ?, ?, ?, ?)",
                [
                    self.run_id,
                    step.stage,
                    step.status,
                    step.started_at,
                    step.finished_at,
                    json.dumps(dict(step.counts)),
                    step.error,
                ],
            )

    def plan_partitions(self, partitions: Sequence[tuple[str, str]]) -> None:
        """Enter what an ingest will read: source and partition, in this order."""
        rows = [[self.run_id, source, name, place] for place, (source, name) in enumerate(partitions)]
        if rows:
            with self._open() as connection:
                connection.executemany(
                    "insert into ops.partitions values (?, ?, ?, ?, 'waiting', null, null, null)", rows
                )

    def finish_partitions(self, partitions: Sequence[Partition]) -> None:
        """Enter how each partition ended."""
        rows = [
            [each.state, json.dumps(dict(each.counts)), each.seconds, each.error, self.run_id, each.source, each.name]
            for each in partitions
        ]
        if rows:
            with self._open() as connection:
                connection.executemany(
                    "update ops.partitions set state = ?, counts = ?, seconds = ?, error = ? "
                    "where run_id = ? and source = ? and partition = ?",
                    rows,
                )

    def add_checks(self, checks: Sequence[Mapping[str, Any]], checked_at: datetime) -> None:
        """Enter the results of a gate, a row for each expectation."""
        rows = [
            [
                self.run_id,
                check["gate"],
                check["suite"],
                check["expectation"],
                check["column_name"],
                check["severity"],
                check["is_success"],
                check["observed_value"],
                check["allowed"],
                check["count_elements"],
                check["count_unexpected"],
                json.dumps(check["samples"], default=str),
                check["notes"],
                checked_at,
            ]
            for check in checks
        ]
        if rows:
            with self._open() as connection:
                connection.executemany(f"insert into ops.gate_results values ({', '.join('?' for _ in rows[0])})", rows)


def read_partitions(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Every partition as the last run that had it left it, by source and in the order of reading."""
    if not warehouse.exists():
        return []
    with open_warehouse(warehouse) as connection:
        connection.execute(_TABLES)
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
    with open_warehouse(warehouse) as connection:
        connection.execute(_TABLES)
        found = connection.execute(
            "select run_id, command, started_at, finished_at, status, exit_code, release_id, error, summary "
            "from ops.runs order by started_at desc, run_id desc limit ?",
            [limit],
        )
        names = [column[0] for column in found.description or []]
        runs = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [run | {"summary": json.loads(run["summary"] or "{}")} for run in runs]
