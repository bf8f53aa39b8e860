"""The stages of a run, one after the other: each makes its entry in the ledger and adds to the record."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from foundation.errors import BooksError, PenstockError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Settings
from operations import build, gate, thresholds
from operations.accounts import books
from operations.accounts.tallies import MartKey
from operations.commit import git_commit
from operations.failed_records import count_failed
from operations.ledger import Ledger, Partition, Step
from operations.letters.ledger import keep_up_to_date
from operations.publish_target import PublishTarget
from operations.releases import measures_shown
from operations.result import of_part, of_stage
from operations.resume import ATTEMPT, Fingerprint, Past, fingerprint, left_to_read, release_of
from operations.summary import RunRecord
from operations.variables import source_variables
from operations.workers import Worker

if TYPE_CHECKING:
    from ingestion.parts import Part
    from ingestion.reading import PartResult
    from operations.letters.replay import Replay
    from publishing.releases import Release


STOPPED = "stopped by a signal"
TOLD = 5  # gaps of the books in the error line; `penstock books` shows all
# By source and partition: records read, loaded and so on.
Landed = Mapping[tuple[str, str], Mapping[str, int]]


@dataclass(frozen=True)
class Request:
    """What the user asked for: a command, its stages, and the as-of date where it is not today.

    With `is_resumed` the last run goes on, with its own as-of date and sources.
    """

    command: str
    stages: Sequence[str]
    as_of: date | None = None
    sources: Sequence[str] = ()
    is_debug: bool = False
    is_resumed: bool = False
    replay: "Replay | None" = None


class Stages:
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
        past: Past,
        parts: "Sequence[Part] | None",
    ) -> None:
        self._keep, self._past, self._parts = keep, past, parts
        self._landed: Landed = {}
        self._built_from: books.Provenance | None = None
        self._commit: str | None = None  # of the models that made the candidate marts, once the books are closed
        self._is_built = past.built_in is not None  # until something is read, which the candidate marts lack
        self.root, self.settings, self.request = root, settings, request
        self.record, self.ledger, self.emit = record, ledger, emit
        worker_log = settings.work_dir / "logs" / "workers.log"
        self._builder = stack.enter_context(Worker(build.MODULE, root, worker_log))
        self._judge = stack.enter_context(Worker(gate.MODULE, root, worker_log))
        self._target = PublishTarget(settings, stack)
        # Slow imports and the start of the embedded Postgres go on beside the stages before them.
        if "publish" in request.stages:
            self._target.start()
        if "build" in request.stages and not self._is_built:
            self._builder.start()
        if "gate" in request.stages:
            self._judge.start()

    def ingest(self) -> None:
        """Sources -> raw, then the gate on raw when the run has gates."""
        from ingestion.ingest import plan

        with self._step("ingest") as counts:
            parts = self._parts
            if parts is None:
                parts = plan(self.root, self.settings, started_at=self.record.started_at, only=self.request.sources)
            if self._past.attempts:
                parts = self._left_to_read(parts)
            if parts:
                self._forget_candidates()
                self._read(parts, counts)
        if "gate" in self.request.stages and self._release_made is None:
            self._pass("raw")

    def _left_to_read(self, parts: Sequence["Part"]) -> "list[Part]":
        """The parts that are left of a run that goes on; those that are not are counted as they landed."""
        left = left_to_read(parts, self._past, self.settings, self.record.run_id)
        self._landed = books.count_landed(self.settings.warehouse, self.record.run_id)
        for part in parts:
            found = self._landed.get((part.source, part.name), {})
            self.record.counts[part.source] = dict(Counter(self.record.counts.get(part.source, {})) + Counter(found))
        places = {(part.source, part.name) for part in left}
        walked = [
            Partition(part.source, part.name, "done", self._landed.get((part.source, part.name), {}), None)
            for part in parts
            if (part.source, part.name) not in self._past.read | places
        ]
        self.ledger.finish_partitions(walked)
        return left

    def _read(self, parts: Sequence["Part"], counts: dict[str, int]) -> None:
        from ingestion.ingest import ingest

        self.ledger.plan_partitions([(part.source, part.name) for part in parts])
        failpoint("ingest.planned")
        with source_variables(self.root, self.settings) as variables:
            try:
                result = ingest(
                    self.root,
                    self.settings,
                    parts,
                    run_id=self.record.run_id,
                    started_at=self.record.attempt_started_at or self.record.started_at,
                    variables=variables,
                    emit=self.emit,
                )
            except BaseException:
                with suppress(PenstockError, duckdb.Error):  # the error that stopped it is the one that is told
                    self._count_landed(parts, counts)
                raise
        failpoint("ingest.done")
        self.ledger.finish_partitions([_entry(each, self._landed) for each in result.parts])
        failpoint("ingest.entered")
        self.record.failures += [failure for each in result.parts for failure in of_part(each)]
        for name, found in result.sources.items():
            self.record.counts[name] = dict(Counter(self.record.counts.get(name, {})) + found.counts)
            counts.update(Counter(counts) + found.counts)
            if found.errors:
                self.record.source_errors[name] = found.errors

    def _count_landed(self, parts: Sequence["Part"], counts: dict[str, int]) -> None:
        """Of an ingest that was stopped: what of each source is in raw for good."""
        landed = books.count_landed(self.settings.warehouse, self.record.run_id)
        totals: dict[str, Counter[str]] = {part.source: Counter() for part in parts}
        for (source, _), found in landed.items():
            totals.setdefault(source, Counter()).update(found)
        self.record.counts = {source: dict(found) for source, found in totals.items()}
        counts.update(sum(totals.values(), Counter()))
        places = {(part.source, part.name) for part in parts}
        self.ledger.finish_partitions(
            [Partition(*place, "interrupted", found, None) for place, found in landed.items() if place in places]
        )

    def build(self) -> None:
        """Raw -> candidate marts, unless an earlier attempt of the run has built them from the same."""
        if self._is_built:
            return
        self._forget_candidates()
        with self._step("build") as counts:
            # dbt takes today for granted, and parses everything anew when it is told another day.
            is_today = self.request.as_of is None and self.record.as_of == datetime.now(UTC).date()
            as_of = None if is_today else self.record.as_of
            now = fingerprint(self.root, self.settings)
            self._built_from = self._provenance(now)
            built = build.build(self._builder, self.settings, as_of, self.emit)
            counts.update(built.counts)
            self.record.build_seconds = built.seconds
            failpoint("build.answered")
        self.ledger.note_candidates(now.models, self._built_from.noted)

    def _forget_candidates(self) -> None:
        """From now on the candidate marts are not what the run would build."""
        self._is_built = False
        if self._past.attempts:
            self.ledger.note_candidates(None)

    def gate(self) -> None:
        """Judge raw, unless this run has done so, and the candidate marts; then close the books of the sources."""
        if self._release_made is not None:
            self.record.gates = dict(self._past.gates)
            return
        if "raw" not in self.record.gates:
            self._pass("raw")
        keep_up_to_date(self.settings)  # a record that is set right by now counts towards no threshold
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
            if self._release_made is not None:
                self.emit(Event("noticed", "publish", message="the release was made before the run was cut off"))
            release = self._release_made or publish(
                self.settings.warehouse,
                self.settings.outputs,
                self._target.destination(),
                Origin(self.record.run_id, self._commit, {**self._verdict(), "books": self.record.books_link}),
                self.emit,
            )
            failpoint("release.returned")
            self.record.release_id, self.record.is_new_release = str(release.release_id), release.is_new
            self._close_mart_books(release)
            failpoint("marts.booked")
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

    def _verdict(self) -> dict[str, int]:
        """What the gate said, as a release tells it; with the attempt, by which one that goes on finds its release."""
        attempt = {ATTEMPT: self.record.attempt} if self.record.attempt > 1 else {}
        return self.record.gates.get("marts", {}) | attempt

    @cached_property
    def _release_made(self) -> "Release | None":
        """The release of the candidate marts that are there, where an attempt was cut off after it had committed."""
        if not (self._is_built and self._past.is_booked and "publish" in self.request.stages):
            return None
        return release_of(
            self._target.destination(), self.record.run_id, self._past.built_in or 1, self.settings.retention
        )

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

    def _provenance(self, now: Fingerprint) -> books.Provenance:
        """What marts would be made from at this moment."""
        switches = self.settings.switches.model_dump()
        return books.Provenance(self.record.as_of, now.model_files, git_commit(self.root), switches)

    def _close_books(self) -> None:
        with self._step("books") as counts:
            settings = self.settings
            closing = books.close_books(
                settings.warehouse,
                self.record.run_id,
                list(settings.sources),
                {
                    mart: MartKey(output.key[0], output.unknown_member)
                    for mart, output in settings.outputs.items()
                    if len(output.key) == 1
                },
                self._built_from or self._provenance(fingerprint(self.root, settings)),
            )
            self._commit = closing.provenance.git_commit
            failpoint("books.closed")
            self.record.books = [book for book in closing.sources if not book.is_abandoned]
            self.record.notes += [book.farewell for book in closing.sources if book.is_abandoned]
            self.record.books_link = asdict(closing.link)
            self._judge_books([*closing.books, *closing.candidates], counts)
            if gaps := closing.gaps:
                more = f"; and {len(gaps) - TOLD} more" if len(gaps) > TOLD else ""
                raise BooksError(
                    f"the books do not balance, nothing is published: {'; '.join(gaps[:TOLD])}{more}",
                    where=str(settings.warehouse),
                    fix="every record of a source needs one row in an outcomes_ model (README, Add a model); "
                    "`penstock books` shows all of them",
                )
            if self._release_made is not None:  # which was judged before it was made
                return
            failed = count_failed(self.settings.warehouse, self.record.run_id)
            self.record.shares = thresholds.judge_shares(self.settings, failed)
            self.ledger.add_checks([share.as_check() for share in self.record.shares], datetime.now(UTC))
            self.record.notes += [f"warning: {line}" for line in thresholds.warnings(self.record.shares)]
            thresholds.stop_if_exceeded(self.record.shares)

    def _close_mart_books(self, release: "Release") -> None:
        """Candidates = published, by what the target notes of the release that it shows."""
        self.record.mart_books, link = books.close_mart_books(
            self.settings.warehouse,
            self.record.run_id,
            {mart: delta.rows_total for mart, delta in release.marts.items()},
            release.release_id,
            measures_shown(self._target.destination()),
        )
        self.record.books_link = asdict(link)
        self._judge_books(self.record.mart_books, {})

    def _judge_books(
        self, closed: Sequence[books.SourceBook | books.CandidateBook | books.MartBook], counts: dict[str, int]
    ) -> None:
        """The equations of the books, among the results of the gates."""
        checks = books.checks(closed)
        self.ledger.add_checks(checks, datetime.now(UTC))
        counts["checks"] = len(checks)
        counts["critical"] = sum(not check["is_success"] for check in checks)
        self.record.gates |= {check["gate"]: {**counts, "warning": 0} for check in checks[:1]}

    @contextmanager
    def _step(self, name: str) -> Iterator[dict[str, int]]:
        counts: dict[str, int] = {}
        started_at = datetime.now(UTC)
        self.emit(Event("started", name))
        try:
            self._keep()
            yield counts
        except BaseException as error:
            text, now = _why(error), datetime.now(UTC)
            self.record.failures.append(of_stage(name, error, text, self.record.attempt, (started_at, now)))
            self.emit(Event("failed", name, None, text if len(text) < 160 else text[:150] + " ...", counts))
            with suppress(Exception):  # on a full disk the ledger cannot be written either; the first error counts
                self.ledger.add_step(Step(name, "failed", started_at, now, counts, text))
            raise
        failpoint("step.done")
        self.emit(Event("finished", name, None, "", counts))
        self.ledger.add_step(Step(name, "done", started_at, datetime.now(UTC), counts))
        failpoint("step.entered")


def _why(error: BaseException) -> str:
    if isinstance(error, PenstockError):
        return error.one_line()
    return STOPPED if isinstance(error, KeyboardInterrupt | SystemExit) else f"{type(error).__name__}: {error}"


def _entry(result: "PartResult", landed: Landed) -> Partition:
    """The entry of a part, with what earlier attempts of the run have landed of it."""
    part = result.part
    counts = Counter(landed.get((part.source, part.name), {})) + result.counts
    error = "; ".join([*result.errors, *filter(None, [result.shortfall])]) or None
    attempted_at = result.started_at if result.state in ("done", "failed") else None
    return Partition(part.source, part.name, result.state, counts, result.seconds, error, attempted_at)
