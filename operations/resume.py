"""`penstock run --resume`: what earlier attempts at the last run have done, and what of it is left."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from foundation.errors import ConfigError
from foundation.settings import CONFIG_FILE, Retention, Settings
from foundation.warehouse import Warehouse, open_warehouse
from operations.commit import models_hash
from operations.ledger import open_ledger
from operations.summary import RunRecord

if TYPE_CHECKING:
    from ingestion.parts import Part
    from publishing.releases import Release
    from publishing.target import Destination

COMMAND = "run"
ATTEMPT = "attempt"  # in what a release tells of its gate


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of what decides what a run does: the settings without their secrets, and all that models are made from.

    `model_files` is that of the files alone, `models` that of files and switches. Suites are in neither, because gates
    judge anew in every attempt.
    """

    settings: str
    models: str
    model_files: str


@dataclass(frozen=True)
class Past:
    """What earlier attempts at a run have done; of a new run nothing.

    `read` are the parts, source and partition, that need not be read again. `built_in` is the attempt whose candidate
    marts are there, None where they are to be built; `is_booked` whether the books were closed over these, and `gates`
    what the gates counted.
    """

    attempts: int = 0
    read: frozenset[tuple[str, str]] = frozenset()
    built_in: int | None = None
    is_booked: bool = False
    gates: Mapping[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Resumption:
    """A run that goes on: what it was asked for, what is done, and what to tell. `summary` is that of its last end."""

    run_id: str
    status: str
    started_at: datetime
    as_of: date
    sources: Sequence[str]
    past: Past
    notes: Sequence[str] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    def record(self, now: datetime) -> RunRecord:
        """The record of the attempt that begins now."""
        attempt = self.past.attempts + 1
        before = "was cut off" if self.status in ("running", "interrupted") else f"ended as {self.status}"
        told = f"attempt {attempt} at run {self.run_id} of {self.started_at:%Y-%m-%d %H:%M:%S}, which {before}"
        return RunRecord(
            self.run_id,
            COMMAND,
            self.started_at,
            self.as_of,
            attempt=attempt,
            attempt_started_at=now,
            notes=[told, *self.notes],
        )


def fingerprint(root: Path, settings: Settings) -> Fingerprint:
    """That of the project as it is now."""
    files = models_hash(root)
    return Fingerprint(
        _hash(settings.model_dump_json()),  # pydantic spells a secret as stars
        _hash(settings.switches.model_dump_json() + files),
        files,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def find_resumable(settings: Settings, now: Fingerprint, as_of: date | None) -> Resumption:
    """The last `penstock run`; the caller holds the run lock, so nobody else is at it. It may have succeeded.

    Raises ConfigError where there is none, or `as_of` is another day than its own.
    """
    if not settings.warehouse.exists():
        raise _nothing(settings.warehouse)
    with open_ledger(settings.warehouse) as connection:
        found = connection.execute(
            "select run_id, status, started_at, as_of, coalesce(attempts, 1), sources, settings_hash, models_hash, "
            "summary from ops.runs where command = ? order by started_at desc, run_id desc limit 1",
            [COMMAND],
        ).fetchone()
        if found is None:
            raise _nothing(settings.warehouse)
        run_id, status, started_at, day, attempts, sources, settings_hash, models_hash, summary = found
        if as_of is not None and as_of != day:
            raise ConfigError(
                f"--as-of {as_of} is not the day of run {run_id}, which is {day}",
                where="--resume",
                fix="leave --as-of out, or start a new run without --resume",
            )
        notes = []
        if settings_hash is not None and settings_hash != now.settings:
            notes.append(f"{CONFIG_FILE} or the environment has changed since the last attempt: what was read stays")
        built_in = _built_in(connection, run_id) if models_hash is not None else None
        if built_in is not None and models_hash != now.models:
            notes.append("the models have changed since they were built: they are built again")
            built_in = None
        elif built_in is not None and (other := _came_after(connection, run_id)):
            notes.append(f"{other} came after the models were built: they are built again")
            built_in = None
        read = connection.execute(
            # one that is done with an error lacks the answers for some ids
            "select source, partition from ops.partitions where run_id = ? and state = 'done' and error is null",
            [run_id],
        ).fetchall()
        is_booked = built_in is not None and bool(
            connection.execute(
                "select 1 from ops.steps where run_id = ? and stage = 'books' and status = 'done' "
                "and coalesce(attempt, 1) >= ? limit 1",
                [run_id, built_in],
            ).fetchone()
        )
        gates = connection.execute(
            "select stage, counts from ops.steps where run_id = ? and starts_with(stage, 'gate ') and status = 'done' "
            "order by finished_at",
            [run_id],
        ).fetchall()
    return Resumption(
        run_id,
        status,
        started_at,
        day,
        json.loads(sources or "[]"),
        Past(
            attempts,
            frozenset(read),
            built_in,
            is_booked,
            {stage.removeprefix("gate "): json.loads(counts) for stage, counts in gates},
        ),
        notes,
        json.loads(summary or "{}"),
    )


def left_to_read(parts: Sequence["Part"], past: Past, settings: Settings, run_id: str) -> list["Part"]:
    """Those of `parts` that no attempt has read to its end, and every other that these make necessary.

    A source is read again where the one that it takes ids from is, for these may be others; and that one is where the
    source itself is, for it gives the ids. Raises LockedError or StorageError.
    """
    from ingestion.landing import Landing
    from ingestion.parts import parent_of, with_parents

    read = past.read
    if any((part.source, part.name) not in read for part in parts):
        Landing(settings.warehouse, settings.work_dir).finish_pending()
        read |= _walked(settings.warehouse, run_id)
    unread = {part.source for part in parts if (part.source, part.name) not in read}
    whole: set[str] = set()
    while (
        following := {name for name, source in settings.sources.items() if parent_of(source) in unread | whole} - whole
    ):
        whole |= following
    parents = {parent_of(settings.sources[name]) for name in with_parents(settings, sorted(unread | whole))}
    whole |= {name for name in parents if name is not None}
    return [part for part in parts if part.source in whole or (part.source, part.name) not in read]


def release_of(destination: "Destination", run_id: str, attempt: int, retention: Retention) -> "Release | None":
    """The release that is shown, if it was made by this run, in this attempt or a later one. Raises PublishError."""
    from publishing.past import list_releases
    from publishing.releases import Release

    entries = list_releases(destination, retention.count)
    newest = entries[0] if entries else None
    if newest is None or newest.run_id != run_id or newest.kind != "publish":
        return None
    if newest.gate.get(ATTEMPT, 1) < attempt:
        return None
    number = newest.release_id
    oldest = min(entry.release_id for entry in entries if entry.is_retained)
    return Release(number, run_id, newest.published_at, True, newest.marts, number, oldest)


def _nothing(warehouse: Warehouse) -> ConfigError:
    return ConfigError("there is no run to resume", where=str(warehouse), fix="start one: penstock run")


def _built_in(connection: duckdb.DuckDBPyConnection, run_id: str) -> int | None:
    row = connection.execute(
        "select coalesce(attempt, 1) from ops.steps where run_id = ? and stage = 'build' and status = 'done' "
        "order by finished_at desc limit 1",
        [run_id],
    ).fetchone()
    return row[0] if row else None


def _came_after(connection: duckdb.DuckDBPyConnection, run_id: str) -> str:
    """A command that may have changed raw or the candidate marts since they were built for the run."""
    row = connection.execute(
        """
        select 'penstock ' || command || ' (run ' || run_id || ')' from ops.runs
        where run_id <> $run_id and command <> 'gate' and started_at > (
            select max(finished_at) from ops.steps where run_id = $run_id and stage = 'build' and status = 'done'
        )
        order by started_at desc limit 1
        """,
        {"run_id": run_id},
    ).fetchone()
    return row[0] if row else ""


def _walked(warehouse: Warehouse, run_id: str) -> frozenset[tuple[str, str]]:
    """The parts of APIs that an attempt which was cut off had walked to their end, all of it landed.

    Files need no such note: the reader itself knows them by their content.
    """
    with open_warehouse(warehouse) as connection:
        columns = connection.execute(
            "select table_name, column_name from information_schema.columns "
            "where table_schema = 'raw' and table_name in ('loads', '_dlt_loads')"
        ).fetchall()
        if not {("loads", "token"), ("_dlt_loads", "load_id")} <= set(columns):
            return frozenset()
        found = connection.execute(
            """
            with complete as (
                select *, coalesce(partition, '') as part from raw.loads as loads
                where run_id = ? and kind = 'api' and exists (
                    select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and done.status = 0
                )
            ),
            -- ids without an answer, which leave no bytes and one dead letter
            unanswered as (
                select distinct source, part from complete
                qualify row_number() over (partition by source, location order by loaded_at desc) = 1
                    and position_bytes = 0 and records_dead_lettered > 0
            )
            select distinct source, part from complete
            where token = 'whole' and (source, part) not in (select (source, part) from unanswered)
            """,
            [run_id],
        ).fetchall()
    return frozenset(found)
