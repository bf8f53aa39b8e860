"""Reading: all parts of all sources side by side, within CONCURRENCY, their parcels in one queue."""

import queue
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from foundation.errors import PenstockError, SourceError
from foundation.events import Emit, Event
from foundation.sources import Source
from ingestion.parcels import Parcel
from ingestion.parts import Part, parent_of

STAGE = "ingest"


@dataclass(frozen=True)
class PartFailure:
    """A file, a page or all of a part that could not be read; `attempts` are those of a request, or one.

    Texts, not the error: its frames would keep what was being read in memory.
    """

    error_type: str
    message: str
    attempts: int
    first_attempt_at: datetime
    last_attempt_at: datetime
    traceback: str


@dataclass
class PartResult:
    """What a run read of one part. `failures` are the files or pages that could not be read.

    `unanswered` counts the ids that got no usable answer, by reason; the part itself is done all the same. `parents`
    are the parts of the source that it takes ids from.
    """

    part: Part
    state: Literal["waiting", "reading", "done", "failed", "stopped"] = "waiting"
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[PartFailure] = field(default_factory=list)
    unanswered: Counter[str] = field(default_factory=Counter)
    started_at: datetime | None = None
    seconds: float = 0.0
    parents: Sequence["PartResult"] = ()

    @property
    def errors(self) -> list[str]:
        """The failures, each on one line."""
        return [failure.message for failure in self.failures]

    @property
    def shortfall(self) -> str | None:
        """That ids are without an answer, and what to do, on one line; None where all have one."""
        if not self.unanswered:
            return None
        count = self.unanswered.total()
        reasons = ", ".join(f"{often:,} {reason}" for reason, often in self.unanswered.most_common())
        what = f"{self.part.source}: {count:,} {'id' if count == 1 else 'ids'} without a usable answer: {reasons}"
        return SourceError(what, fix=f"penstock replay --source {self.part.source} asks for them alone").one_line()

    def fail(self, error: PenstockError) -> None:
        """Note what could not be read."""
        now = datetime.now(UTC)
        began = getattr(error, "first_attempt_at", None) or self.started_at or now
        attempts = int(getattr(error, "attempts", 1))
        lines = "".join(traceback.format_exception(error))
        self.failures.append(PartFailure(type(error).__name__, error.one_line(), attempts, began, now, lines))


# Reads one part: its parcels, with what cannot be read noted in the result.
ReadPart = Callable[[PartResult], Iterator[Parcel]]


class ReaderPool:
    """The threads that read. A source that takes ids from another one waits until that is read."""

    def __init__(
        self, parts: Sequence[Part], sources: Mapping[str, Source], read: ReadPart, concurrency: int, emit: Emit
    ) -> None:
        self.results = [PartResult(part) for part in parts]
        for result in self.results:
            parent = parent_of(result.part.settings)
            result.parents = [one for one in self.results if one.part.source == parent]
        self._sources, self._read, self._emit, self._concurrency = sources, read, emit, concurrency
        self._ready: queue.Queue[Parcel | BaseException | PartResult] = queue.Queue(maxsize=concurrency)
        self._stopped = threading.Event()
        self._is_stop_told = False

    def parcels(self) -> Generator[Parcel | None]:
        """The parcels of all parts as they come; None when none came for a second.

        A failure of a part is in its result. Raises what a reader raised besides, once all have stopped.
        """
        waiting = list(self.results)
        running = 0
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="reader") as pool:
            try:
                while waiting or running:
                    ready = [result for result in waiting if not self._waits(result)]
                    waiting = [result for result in waiting if self._waits(result)]
                    for result in ready:
                        pool.submit(self._run, result)
                    running += len(ready)
                    try:
                        item = self._ready.get(timeout=1)
                    except queue.Empty:
                        yield None
                        continue
                    if isinstance(item, PartResult):
                        running -= 1
                        self._finish(item)
                    elif isinstance(item, BaseException):
                        raise item
                    else:
                        yield item
            finally:  # let the readers go that wait for a place in the queue
                self._stopped.set()
                while running:
                    running -= isinstance(self._ready.get(), PartResult)

    def _waits(self, result: PartResult) -> bool:
        return any(parent.state in ("waiting", "reading") for parent in result.parents)

    def _run(self, result: PartResult) -> None:
        started, result.started_at = time.monotonic(), datetime.now(UTC)
        try:
            if self._stopped.is_set():
                result.state = "stopped"
                return
            result.state = "reading"
            self._tell("started", result)
            for parcel in self._read(result):
                result.counts.update(
                    {what: parcel.count(what) for what in ("read", "loaded", "dead_lettered", "skipped")}
                )
                self._tell("progressed", result)
                self._ready.put(parcel)
                if self._stopped.is_set():
                    result.state = "stopped"
                    return
        except PenstockError as error:
            result.fail(error)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that lands, which raises it
            self._ready.put(error)
        finally:
            result.seconds = time.monotonic() - started
            # Here, because this thread takes the next part before the failure is known to anyone else.
            if self._stops_others(result):
                self._stopped.set()
            self._ready.put(result)

    def _stops_others(self, result: PartResult) -> bool:
        return bool(result.errors) and self._sources[result.part.source].fail_fast

    def _finish(self, result: PartResult) -> None:
        if result.state == "reading":
            result.state = "failed" if result.errors else "done"
        if self._stops_others(result) and not self._is_stop_told:
            self._is_stop_told = True
            self._emit(
                Event("noticed", STAGE, result.part.source, "it failed and is fail_fast: no other source is read")
            )
        if result.part.name or result.state == "stopped":
            self._tell("failed" if result.errors else "finished", result, "; ".join(result.errors) or result.state)

    def _tell(
        self, name: Literal["started", "progressed", "finished", "failed"], result: PartResult, message: str = ""
    ) -> None:
        part = result.part
        self._emit(Event(name, STAGE, part.source, message, dict(result.counts), part.name or None))
