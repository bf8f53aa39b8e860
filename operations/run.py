"""A run: the stages in their order, under one id, one lock and one as-of, with the ledger and the summary."""

import os
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import structlog
from rich.console import Console

from foundation.errors import BooksError, GateError, PenstockError, SourceError, StorageError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Settings
from foundation.sources import ApiSource
from foundation.warehouse import hold_warehouse
from operations import books, build, gate, logs
from operations.commit import git_commit
from operations.dead_letters import read_dead_letters
from operations.ledger import Ledger, Partition, Step
from operations.lock import run_lock
from operations.progress import progress
from operations.publish_target import PublishTarget
from operations.summary import RunRecord, as_dictionary, print_summary, write_json
from operations.workers import Worker

if TYPE_CHECKING:
    from ingestion.reading import PartResult

STAGES = ("ingest", "build", "gate", "publish")
BASE_URL = "API_BASE_URL"
STOPPED = "stopped by a signal"


@dataclass(frozen=True)
class Request:
    """What the user asked for: a command, its stages, and the as-of date where it is not today."""

    command: str
    stages: Sequence[str]
    as_of: date | None = None
    sources: Sequence[str] = ()
    is_debug: bool = False


def run(root: Path, settings: Settings, request: Request, console: Console) -> dict[str, Any]:
    """Do the stages and give the summary; its `exit_code` is 0 only if everything asked for was done.

    Raises PenstockError only where there is no ledger to enter it in: a lock that is held, a folder or models that are
    not there.
    """
    if set(request.stages) != {"ingest"}:
        build.require_models(root)
    started_at = datetime.now(UTC)
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    record = RunRecord(run_id, request.command, started_at, request.as_of or started_at.date())
    with ExitStack() as stack:
        stack.enter_context(run_lock(settings.work_dir, run_id))
        failpoint("run.locked")
        try:
            logs.set_up_logs(settings.work_dir / "logs", settings.log_level, settings.secrets())
        except OSError as error:
            raise StorageError(f"logs cannot be written: {error.strerror}", where=str(settings.work_dir)) from error
        structlog.contextvars.bind_contextvars(run_id=run_id)
        keep = stack.enter_context(hold_warehouse(settings.warehouse))
        ledger = Ledger(settings.warehouse, run_id)
        for cut_off in ledger.start(request.command, started_at, record.as_of):
            record.notes.append(f"run {cut_off} was cut off; this run goes on from what it left")
        failpoint("run.entered")
        show = stack.enter_context(progress(console, settings.progress_update_ms))
        emit = _both(show, logs.listener(), record)
        stages = _Stages(root, settings, request, record, ledger, emit, stack, keep)
        _do(stages, request, record)
        failpoint("run.done")
        summary = _finish(stages, record, ledger)
    print_summary(summary, console)
    return summary


def _do(stages: "_Stages", request: Request, record: RunRecord) -> None:
    try:
        for stage in request.stages:
            getattr(stages, stage)()
        if record.source_errors:
            raise SourceError("; ".join(error for errors in record.source_errors.values() for error in errors))
        record.status = "succeeded"
    except SourceError as error:
        record.status = "partial" if record.release_id is not None or _any_went_on(record) else "failed"
        record.exit_code = error.exit_code
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


def _finish(stages: "_Stages", record: RunRecord, ledger: Ledger) -> dict[str, Any]:
    record.finished_at = datetime.now(UTC)
    if "ingest" in stages.request.stages:
        with suppress(PenstockError, duckdb.Error):  # a warehouse that cannot be read has been told
            record.dead_letters = read_dead_letters(stages.settings.warehouse, record.run_id)
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


def _why(error: BaseException) -> str:
    if isinstance(error, PenstockError):
        return error.one_line()
    return STOPPED if isinstance(error, KeyboardInterrupt | SystemExit) else f"{type(error).__name__}: {error}"


def _entry(result: "PartResult") -> Partition:
    part = result.part
    return Partition(
        part.source, part.name, result.state, result.counts, result.seconds, "; ".join(result.errors) or None
    )


class _Stages:
    """Every stage of a run as one method; each makes its entry in the ledger and adds to the record."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        request: Request,
        record: RunRecord,
        ledger: Ledger,
        emit: Emit,
        stack: ExitStack,
        keep: Callable[[], None],
    ) -> None:
        self._keep = keep
        self.root, self.settings, self.request = root, settings, request
        self.record, self.ledger, self.emit = record, ledger, emit
        worker_log = settings.work_dir / "logs" / "workers.log"
        self._builder = stack.enter_context(Worker(build.MODULE, root, worker_log))
        self._judge = stack.enter_context(Worker(gate.MODULE, root, worker_log))
        self._target = PublishTarget(settings, stack)
        # Slow imports and the start of the embedded Postgres go on beside the stages before them.
        if "publish" in request.stages:
            self._target.start()
        if "build" in request.stages:
            self._builder.start()
        if "gate" in request.stages:
            self._judge.start()

    def ingest(self) -> None:
        """Sources -> raw, then the gate on raw when the run has gates."""
        from ingestion.ingest import ingest, plan

        with self._step("ingest") as counts, source_variables(self.root, self.settings) as variables:
            started_at = self.record.started_at
            parts = plan(self.root, self.settings, started_at=started_at, only=self.request.sources)
            self.ledger.plan_partitions([(part.source, part.name) for part in parts])
            failpoint("ingest.planned")
            try:
                result = ingest(
                    self.root,
                    self.settings,
                    parts,
                    run_id=self.record.run_id,
                    started_at=started_at,
                    variables=variables,
                    emit=self.emit,
                )
            except BaseException:
                with suppress(PenstockError, duckdb.Error):  # the error that stopped it is the one that is told
                    self._count_landed([part.source for part in parts], counts)
                raise
            failpoint("ingest.done")
            self.ledger.finish_partitions([_entry(each) for each in result.parts])
            failpoint("ingest.entered")
            self.record.source_errors = {name: found.errors for name, found in result.sources.items() if found.errors}
            self.record.counts = {name: dict(found.counts) for name, found in result.sources.items()}
            counts.update(sum((found.counts for found in result.sources.values()), Counter()))
        if "gate" in self.request.stages:
            self._pass("raw")

    def _count_landed(self, sources: Sequence[str], counts: dict[str, int]) -> None:
        """Of an ingest that was stopped: what of each source is in raw for good."""
        landed = books.count_landed(self.settings.warehouse, self.record.run_id)
        totals: dict[str, Counter[str]] = {source: Counter() for source in sources}
        for (source, _), found in landed.items():
            totals.setdefault(source, Counter()).update(found)
        self.record.counts = {source: dict(found) for source, found in totals.items()}
        counts.update(sum(totals.values(), Counter()))
        self.ledger.finish_partitions(
            [Partition(source, name, "interrupted", found, None) for (source, name), found in landed.items()]
        )

    def build(self) -> None:
        """Raw -> candidate marts."""
        with self._step("build") as counts:
            counts.update(build.build(self._builder, self.settings, self.request.as_of, self.emit))
            failpoint("build.answered")

    def gate(self) -> None:
        """Judge raw, unless this run has done so, and the candidate marts; then close the books of the sources."""
        if "raw" not in self.record.gates:
            self._pass("raw")
        self._pass("marts")
        self._close_books()

    def publish(self) -> None:
        """Candidate marts -> Postgres and exports, once the books of the sources balance."""
        from publishing.exports import export, keep_exports
        from publishing.publish import publish
        from publishing.releases import Origin

        if not self.record.books:
            self._close_books()
        with self._step("publish") as counts:
            release = publish(
                self.settings.warehouse,
                self.settings.outputs,
                self._target.destination(),
                Origin(self.record.run_id, git_commit(self.root), self.record.gates.get("marts", {})),
                self.emit,
            )
            failpoint("release.returned")
            self.record.mart_books = books.close_mart_books(
                self.settings.warehouse,
                self.record.run_id,
                {mart: delta.rows_total for mart, delta in release.marts.items()},
            )
            failpoint("marts.booked")
            self.record.release_id, self.record.is_new_release = str(release.release_id), release.is_new
            for mart, delta in release.marts.items():
                self.record.changes[mart] = {
                    "added": delta.rows_added,
                    "changed": delta.rows_changed,
                    "removed": delta.rows_removed,
                }
                counts[mart] = delta.rows_total
            if not all(book.is_balanced for book in self.record.mart_books):
                raise BooksError("a published mart differs from its candidate", fix="run again; see last_run.json")
            files = export(self.settings.warehouse, self.settings.outputs, self.settings.output_dir, self.emit)
            failpoint("exports.written")
            if files:
                keep_exports(files, self.settings.output_dir, release)
                self.record.reports["exports"] = str(self.settings.output_dir)

    def report(self) -> None:
        """The pages of the report site that the ledger alone can fill."""
        from operations.site.pages import render_site

        pages = render_site(self.settings.warehouse, self.settings.site_dir)
        if pages:
            self.record.reports["report"] = str(self.settings.site_dir / "index.html")
        self.record.reports["logs"] = str(self.settings.work_dir / "logs")

    def _pass(self, name: str) -> None:
        with self._step(f"gate {name}") as counts:
            verdict = gate.judge(self._judge, self.settings, name, self.record.run_id, self.emit)
            failpoint("gate.judged")
            self.ledger.add_checks(verdict.checks, datetime.now(UTC))
            failpoint("gate.saved")
            counts["checks"] = len(verdict.checks)
            counts["critical"] = len(verdict.critical)
            counts["warning"] = len(verdict.warnings)
            self.record.gates[name] = dict(counts)
            self.record.notes += [f"warning: {line}" for line in verdict.warnings]
            verdict.stop_if_closed()

    def _close_books(self) -> None:
        with self._step("books"):
            closed = books.close_books(self.settings.warehouse, self.record.run_id, list(self.settings.sources))
            failpoint("books.closed")
            self.record.books = [book for book in closed if not book.is_abandoned]
            self.record.notes += [book.farewell for book in closed if book.is_abandoned]
            if gaps := [book.gap for book in closed if not book.is_balanced]:
                raise BooksError(
                    f"the books do not balance, nothing is published: {'; '.join(gaps)}",
                    where=str(self.settings.warehouse),
                    fix="every record of a source needs one row in an outcomes_ model (README, Add a model)",
                )
            percent = books.failed_percent(self.settings.warehouse, self.record.run_id)
            if percent > self.settings.failure_threshold_percent:
                raise GateError(
                    f"{percent:.1f}% of the records since the last release failed, nothing is published",
                    where=f"failure_threshold_percent {self.settings.failure_threshold_percent:g}",
                    fix="see the rejected_ models and raw.dead_letters, mend the source, or raise the threshold",
                )

    @contextmanager
    def _step(self, name: str) -> Iterator[dict[str, int]]:
        counts: dict[str, int] = {}
        started_at = datetime.now(UTC)
        self.emit(Event("started", name))
        try:
            self._keep()
            yield counts
        except BaseException as error:
            text = _why(error)
            self.emit(Event("failed", name, None, text if len(text) < 160 else text[:150] + " ...", counts))
            with suppress(Exception):  # on a full disk the ledger cannot be written either; the first error counts
                self.ledger.add_step(Step(name, "failed", started_at, datetime.now(UTC), counts, text))
            raise
        failpoint("step.done")
        self.emit(Event("finished", name, None, "", counts))
        self.ledger.add_step(Step(name, "done", started_at, datetime.now(UTC), counts))
        failpoint("step.entered")


@contextmanager
def source_variables(root: Path, settings: Settings) -> Iterator[Mapping[str, str]]:
    """What ${NAME} in a source may stand for. Without API_BASE_URL the bundled sample API answers for it."""
    known = dict(os.environ)
    if settings.api_key is not None:
        known["API_KEY"] = settings.api_key.get_secret_value()
    if settings.api_base_url:
        known[BASE_URL] = settings.api_base_url.rstrip("/")
    needs_api = any(
        isinstance(source, ApiSource) and f"${{{BASE_URL}}}" in source.url for source in settings.sources.values()
    )
    if BASE_URL in known or not needs_api:
        yield known
        return
    from sample_data.api_server import serve

    with serve(root / "sample_data" / "employees" / "talent.json") as url:
        yield known | {BASE_URL: url}


def _both(show: Emit, log: Emit, record: RunRecord) -> Emit:
    guard = threading.Lock()

    def emit(event: Event) -> None:
        with guard:  # readers emit from their own threads
            show(event)
            log(event)
            if event.name == "noticed":
                record.notes.append(f"{event.source}: {event.message}" if event.source else event.message)

    return emit
