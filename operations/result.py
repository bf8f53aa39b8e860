"""The result of a run: what of it succeeded, failed or was skipped, part by part, with the reason of every failure.

Read from the ledger and raw, so that a run in several attempts has one result. README.md tells its shape.
"""

import json
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import duckdb

from foundation.settings import VARIABLE, Settings
from foundation.sources import ApiSource
from operations.ledger import open_ledger
from operations.letters.examples import shown

if TYPE_CHECKING:
    from ingestion.reading import PartResult

MOST_IDS = 10_000  # of a source and kind; all of them are in raw.loads and raw.dead_letters
LONGEST_TRACEBACK = 10_000
_WHY_SKIPPED = {
    "stopped": "a source that is fail_fast failed",
    "waiting": "the run ended before it was read",
    "interrupted": "the run ended before it was read to its end",
}


@dataclass(frozen=True)
class Failure:
    """What failed: a stage, or of the ingest a source, one of its partitions or one id."""

    stage: str
    error_type: str
    message: str
    attempts: int
    first_attempt_at: datetime
    last_attempt_at: datetime
    duration_seconds: float | None = None
    traceback: str | None = None
    source: str | None = None
    partition: str | None = None
    id: str | None = None

    def as_dictionary(self) -> dict[str, Any]:
        """The failure as JSON has it."""
        times = {name: getattr(self, name).isoformat() for name in ("first_attempt_at", "last_attempt_at")}
        return asdict(self) | times

    def without(self, hide: Callable[[str], str]) -> "Failure":
        """The failure with every text as `hide` leaves it."""
        trace = None if self.traceback is None else hide(self.traceback)[-LONGEST_TRACEBACK:]
        return replace(self, message=hide(self.message), traceback=trace)


def of_part(result: "PartResult") -> list[Failure]:
    """The failures of a part that was read."""
    return [
        Failure(
            "ingest",
            each.error_type,
            each.message,
            each.attempts,
            each.first_attempt_at,
            each.last_attempt_at,
            round(result.seconds, 3),
            each.traceback,
            result.part.source,
            result.part.name or None,
        )
        for each in result.failures
    ]


def of_stage(stage: str, error: BaseException, message: str, attempt: int, times: tuple[datetime, datetime]) -> Failure:
    """The failure of a stage, which began and ended at `times`."""
    seconds = round((times[1] - times[0]).total_seconds(), 3)
    if isinstance(error, KeyboardInterrupt | SystemExit):  # a signal came; where it struck tells nothing
        return Failure(stage, "Stopped", message, attempt, *times, seconds)
    lines = "".join(traceback.format_exception(error))
    return Failure(stage, type(error).__name__, message, attempt, *times, seconds, lines)


def hider(settings: Settings) -> Callable[[str], str]:
    """What cuts every secret out of a text: those of the settings, and what ${NAME} stands for beside them."""
    secrets = set(settings.secrets())
    for source in settings.sources.values():
        if isinstance(source, ApiSource):
            texts = [*(held.get_secret_value() for held in source.secrets()), *source.params.values(), source.url]
            names = {name for text in texts for name in VARIABLE.findall(text)}
            # An address is no secret, and the texts would make no sense without it.
            secrets |= {value for name in names if (value := os.environ.get(name, "")) and "://" not in value}
    spellings = sorted({spelt for text in secrets for spelt in (text, quote(text, safe=""))}, key=len, reverse=True)

    def hide(text: str) -> str:
        for spelt in spellings:
            text = text.replace(spelt, "***")
        return text

    return hide


def read_result(settings: Settings, run_id: str, failures: Sequence[Failure]) -> dict[str, Any]:
    """The result as JSON has it; `failures` are those of this attempt.

    Parts are those of all attempts, each as the last one that read it left it.

    Raises duckdb.Error, LockedError or StorageError.
    """
    hide = hider(settings)
    with open_ledger(settings.warehouse) as connection:
        parts = _parts(connection, run_id)
        earlier = _earlier_failures(connection, run_id)
        ids = [
            _ids(connection, run_id, name, source)
            for name, source in settings.sources.items()
            if isinstance(source, ApiSource) and source.for_each and any(part["source"] == name for part in parts)
        ]
    told = {(failure.source, failure.partition) for failure in failures}
    untold = [part for part in parts if part["state"] == "failed" and _place(part) not in told]
    succeeded = [part for part in parts if part["state"] == "done"]
    count_failed = sum(part["state"] == "failed" for part in parts)
    return {
        "success_rate_percent": _percent(len(succeeded), count_failed),
        "successful": [_without(part, "state", "error") for part in succeeded],
        "failed": [failure.without(hide).as_dictionary() for failure in failures]
        + [failure for part in untold for failure in earlier.get(_place(part)) or [_failed(part)]]
        + [failure.as_dictionary() for found in ids for failure in found.pop("failures")],
        "skipped": [
            {**_without(part, "state", "error"), "reason": _WHY_SKIPPED[part["state"]]}
            for part in parts
            if part["state"] in _WHY_SKIPPED
        ],
        "ids": ids,
    }


def _place(of: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return of["source"], of["partition"]


def _earlier_failures(
    connection: duckdb.DuckDBPyConnection, run_id: str
) -> dict[tuple[str | None, str | None], list[dict[str, Any]]]:
    """By part: its failures as the result of the attempt before has them."""
    row = connection.execute("select summary from ops.runs where run_id = ?", [run_id]).fetchone()
    result = (json.loads(row[0]) if row and row[0] else {}).get("result") or {}
    found: dict[tuple[str | None, str | None], list[dict[str, Any]]] = {}
    for failure in result.get("failed", ()):
        if failure["source"] is not None and failure["id"] is None:
            found.setdefault(_place(failure), []).append(failure)
    return found


def _failed(part: Mapping[str, Any]) -> dict[str, Any]:
    """The failure of a part in an attempt that was cut off before it could tell more."""
    times = {name: part[name] for name in ("first_attempt_at", "last_attempt_at", "duration_seconds")}
    of = {"stage": "ingest", "error_type": "SourceError", "message": part["error"], "attempts": part["attempts"]}
    return {**of, **times, "traceback": None, "source": part["source"], "partition": part["partition"], "id": None}


def _percent(good: int, bad: int) -> float | None:
    return round(100 * good / (good + bad), 3) if good + bad else None


def _without(part: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in names}


def _parts(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[dict[str, Any]]:
    found = connection.execute(
        "select source, partition, state, counts, error, coalesce(attempts, 0), first_attempt_at, last_attempt_at, "
        "seconds from ops.partitions where run_id = ? order by place, source, partition",
        [run_id],
    ).fetchall()
    parts = []
    for source, partition, state, counts, error, attempts, first, last, seconds in found:
        counted = json.loads(counts or "{}")
        parts.append(
            {
                "source": source,
                "partition": partition or None,
                "state": state,
                **{name: counted.get(name, 0) for name in ("read", "loaded", "dead_lettered", "skipped")},
                "attempts": attempts,
                "first_attempt_at": first.isoformat() if first else None,
                "last_attempt_at": last.isoformat() if last else None,
                "duration_seconds": None if seconds is None else round(seconds, 3),
                "error": error,
            }
        )
    return parts


def _ids(connection: duckdb.DuckDBPyConnection, run_id: str, name: str, source: ApiSource) -> dict[str, Any]:
    """How the ids of a for_each source fared, the last time that each was asked for."""
    found: dict[str, Any] = {"source": name, "success_rate_percent": None}
    found |= {kind: {"count": 0, "ids": []} for kind in ("successful", "skipped", "failed")}
    failures = found["failures"] = []
    tables = {
        table
        for (table,) in connection.execute(
            "select table_name from information_schema.tables where table_schema = 'raw'"
        ).fetchall()
    }
    if not {"loads", "_dlt_loads"} <= tables:
        return found
    letters = _LETTERS if "dead_letters" in tables else _NO_LETTERS
    rows = connection.execute(
        _ASKED.format(letters=letters), {"run_id": run_id, "source": name, "most": MOST_IDS}
    ).fetchall()
    for kind, count, location, partition, record, stage, reason, message, attempts, first, last in rows:
        one = _id_of(source.url, location, record)
        found[kind]["count"] = count
        found[kind]["ids"].append(one)
        if kind == "failed":
            told = shown({"message": message})["message"]
            failures.append(
                Failure(stage, reason, told, attempts, first, last, source=name, partition=partition, id=one)
            )
    good = found["successful"]["count"] + found["skipped"]["count"]
    found["success_rate_percent"] = _percent(good, found["failed"]["count"])
    return found


def _id_of(url: str, location: str, record: str | None) -> str:
    """The id that was asked for: as its letter has it, or as the address holds it."""
    if record is not None:
        try:
            return str(json.loads(record)["id"])
        except (ValueError, KeyError, TypeError):
            return location
    before, _, after = url.partition("{id}")
    # What stands for ${NAME} is not known here; the path around the id is.
    before, after = before.rpartition("}")[2], re.split(r"[${?]", after)[0]
    found = re.search(f"{re.escape(before)}([^/?#]+?){re.escape(after)}(?:[?#]|$)", location)
    return unquote(found[1]) if found else location


# What an id that got no answer leaves is a letter without a line; a record in an answer has one.
_LETTERS = """
    select load_id, record, stage, reason, message, attempts from raw.dead_letters
    where run_id = $run_id and source = $source and line is null and byte_offset is null
"""
_NO_LETTERS = """
    select null::varchar as load_id, null::varchar as record, null::varchar as stage, null::varchar as reason,
        null::varchar as message, null::bigint as attempts where false
"""
_ASKED = """
    with complete as (
        select distinct on (load_id) load_id, location, partition, loaded_at, records_read, records_skipped
        from raw.loads as loads
        where run_id = $run_id and source = $source and exists (
            select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and done.status = 0
        )
    ),
    letters as ({letters}),
    asked as (
        select
            complete.*, letters.record, letters.stage, letters.reason, letters.message, letters.attempts,
            case
                when letters.load_id is not null then 'failed'
                when records_read > 0 and records_skipped = records_read then 'skipped'
                else 'successful'
            end as kind
        from complete left join letters on complete.load_id = letters.load_id
    ),
    latest as (
        select
            location, arg_max(nullif(partition, ''), loaded_at) as partition, arg_max(kind, loaded_at) as kind,
            arg_max(record, loaded_at) as record, arg_max(stage, loaded_at) as stage,
            arg_max(reason, loaded_at) as reason, arg_max(message, loaded_at) as message,
            sum(attempts)::bigint as attempts,
            min(loaded_at) filter (where kind = 'failed') as first_at,
            max(loaded_at) filter (where kind = 'failed') as last_at
        from asked group by location
    )
    select
        kind, count(*) over (partition by kind) as count_all, location, partition, record, stage, reason, message,
        attempts, first_at, last_at
    from latest
    qualify row_number() over (partition by kind order by location) <= $most
    order by kind, location
"""
