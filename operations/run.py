"""A run: the stages in their order, under one id, one lock and one as-of, with the ledger and the summary."""

import threading
import traceback
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import structlog
from rich.console import Console

from foundation.errors import PenstockError, SourceError, StorageError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Settings
from foundation.warehouse import hold_warehouse
from operations import build, logs
from operations.domains import Stopwatch, read_domains
from operations.ledger import Ledger
from operations.letters.examples import read_dead_letters
from operations.letters.ledger import keep_up_to_date
from operations.lock import run_lock
from operations.progress import progress
from operations.result import hider, read_result
from operations.resume import Past, find_resumable, fingerprint
from operations.stages import STOPPED, Request, Stages
from operations.summary import RunRecord, as_dictionary, print_summary, write_json

if TYPE_CHECKING:
    from ingestion.parts import Part


def run(root: Path, settings: Settings, request: Request, console: Console) -> dict[str, Any]:
    """Do the stages and give the summary; its `exit_code` is 0 only if everything asked for was done.

    Raises PenstockError only where there is no ledger to enter it in: a lock that is held, a folder or models that are
    not there, no run that could be resumed.
    """
    if set(request.stages) != {"ingest"}:
        build.require_models(root)
    started_at = datetime.now(UTC)
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    record = RunRecord(run_id, request.command, started_at, request.as_of or started_at.date())
    past = Past()
    now = fingerprint(root, settings)
    with ExitStack() as stack:
        name_holder = stack.enter_context(run_lock(settings.work_dir, run_id))
        failpoint("run.locked")
        try:
            logs.set_up_logs(settings.work_dir / "logs", settings.log_level, settings.secrets())
        except OSError as error:
            raise StorageError(f"logs cannot be written: {error.strerror}", where=str(settings.work_dir)) from error
        keep = stack.enter_context(hold_warehouse(settings.warehouse))
        if request.is_resumed:
            found = find_resumable(settings, now, request.as_of)
            if found.status == "succeeded":
                console.print(f"nothing to resume: run {found.run_id} has succeeded", highlight=False)
                return {"exit_code": 0, "errors": [], **found.summary}
            record, past = found.record(started_at), found.past
            request = replace(request, sources=found.sources)
            name_holder(record.run_id)
        structlog.contextvars.bind_contextvars(run_id=record.run_id)
        parts = _replayed_parts(root, settings, request, record)
        ledger = Ledger(settings.warehouse, record.run_id, record.attempt)
        if request.is_resumed:
            cut_offs = ledger.resume(started_at, now.settings)
        else:
            cut_offs = ledger.start(request.command, started_at, record.as_of, request.sources, now.settings)
        record.notes += [f"run {cut_off} was cut off; this run goes on from what it left" for cut_off in cut_offs]
        failpoint("run.entered")
        show = stack.enter_context(progress(console, settings.progress_update_ms))
        record.domains, record.seconds = read_domains(root), (stopwatch := Stopwatch()).seconds
        emit = _all([show, logs.listener(), stopwatch], record)
        stages = Stages(root, settings, request, record, ledger, emit, stack, keep, past, parts)
        _do(stages, request, record)
        failpoint("run.done")
        summary = _finish(stages, record, ledger)
    print_summary(summary, console)
    return summary


def _replayed_parts(root: Path, settings: Settings, request: Request, record: RunRecord) -> "Sequence[Part] | None":
    """What a replay reads instead of the sources; None where nothing is replayed."""
    if request.replay is None:
        return None
    from operations.letters.replay import plan_replay

    plan = plan_replay(root, settings, request.replay, record.run_id, record.started_at.date())
    record.notes += plan.notes
    return plan.parts


def _do(stages: Stages, request: Request, record: RunRecord) -> None:
    try:
        for stage in request.stages:
            getattr(stages, stage)()
        record.status = "succeeded"
        if record.source_errors:
            record.status = "partial" if record.release_id is not None or _any_went_on(record) else "failed"
            record.exit_code = SourceError.exit_code
    except PenstockError as error:
        record.status, record.exit_code = "failed", error.exit_code
        record.errors.append(error.one_line())
        if request.is_debug:
            traceback.print_exc()
    except (KeyboardInterrupt, SystemExit):
        record.status, record.exit_code = "interrupted", 130
        record.errors.append(STOPPED)
    except Exception as error:  # noqa: BLE001 - a run always ends with a summary and an entry in the ledger
        record.status, record.exit_code = "failed", PenstockError.exit_code
        record.errors.append(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]} (penstock --debug shows more)"
        )
        structlog.get_logger("penstock").error("unexpected", exc_info=error)
        if request.is_debug:
            traceback.print_exc()


def _any_went_on(record: RunRecord) -> bool:
    """Whether a source was read without a failure, or in part."""
    return any(counts.get("read") or name not in record.source_errors for name, counts in record.counts.items())


def _finish(stages: Stages, record: RunRecord, ledger: Ledger) -> dict[str, Any]:
    record.finished_at = datetime.now(UTC)
    if "ingest" in stages.request.stages:
        with suppress(PenstockError, duckdb.Error):  # a warehouse that cannot be read has been told
            record.dead_letters = read_dead_letters(stages.settings.warehouse, record.run_id)
    _tell_failures(stages.settings, record)
    if set(stages.request.stages) != {"ingest"} or stages.request.replay is not None:
        keep_up_to_date(stages.settings)
    summary = as_dictionary(record)
    try:
        ledger.finish(
            record.status,
            record.exit_code,
            release_id=record.release_id,
            error="; ".join(summary["errors"]) or None,
            summary=summary,
        )
        failpoint("run.closed")
        stages.report()
        failpoint("site.rendered")
        write_json(as_dictionary(record), stages.settings.work_dir / "last_run.json")
        failpoint("summary.written")
    except Exception as error:  # noqa: BLE001 - the release stands, whatever becomes of the report about it
        structlog.get_logger("penstock").error("report", exc_info=error)
        if record.exit_code != StorageError.exit_code:  # on a full disk it is the same once more
            text = error.one_line() if isinstance(error, PenstockError) else f"the report cannot be written: {error}"
            record.errors.append(text)
        record.exit_code = record.exit_code or getattr(error, "exit_code", StorageError.exit_code)
        record.status = "failed" if record.status == "succeeded" else record.status
    return as_dictionary(record)


def _tell_failures(settings: Settings, record: RunRecord) -> None:
    """Into the log with their tracebacks, and as the result of the run."""
    hide = hider(settings)
    for failure in record.failures:
        told = failure.without(hide).as_dictionary()
        structlog.get_logger("penstock").error(told.pop("message"), **told)
    with suppress(PenstockError, duckdb.Error):
        record.result = read_result(settings, record.run_id, record.failures)


def _all(listeners: Sequence[Emit], record: RunRecord) -> Emit:
    guard = threading.Lock()

    def emit(event: Event) -> None:
        with guard:  # readers emit from their own threads
            for listener in listeners:
                listener(event)
            if event.name == "noticed":
                record.notes.append(f"{event.source}: {event.message}" if event.source else event.message)

    return emit
