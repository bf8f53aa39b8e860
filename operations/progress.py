"""Progress: bars on a terminal, plain lines elsewhere."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from foundation.events import Emit, Event
from operations.showing import say

SOURCE_SECONDS = 10.0  # between two plain lines of one source: a log is kept, a bar is not


@contextmanager
def progress(console: Console, update_ms: int) -> Iterator[Emit]:
    """A listener that shows how far every stage and source is.

    Where there is no terminal, starts, ends and notices have a line each; between them a stage has one at most every
    `update_ms` milliseconds, and a source at most every SOURCE_SECONDS.
    """
    if console.is_terminal:
        with _bars(console) as listener:
            yield listener
    else:
        with _lines(console, update_ms) as listener:
            yield listener


@contextmanager
def _bars(console: Console) -> Iterator[Emit]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
    )
    tasks: dict[tuple[str | None, ...], TaskID] = {}
    with Progress(*columns, console=console, transient=True) as display:

        def listen(event: Event) -> None:
            key = (event.stage, event.source, event.partition)
            if key not in tasks:
                title = " ".join(part for part in key if part)
                tasks[key] = display.add_task(title, total=None, counts="")
            total = event.counts.get("of_nodes")
            if event.name == "finished":
                display.update(tasks[key], total=1, completed=1, counts=_words(event))
            elif event.name in ("failed", "noticed"):
                display.console.print(f"{' '.join(filter(None, key))}: {event.message}", markup=False, highlight=False)
            else:
                display.update(
                    tasks[key],
                    total=total,
                    completed=event.counts.get("nodes", 0),
                    counts=_words(event) or event.message,
                )

        yield listen


@contextmanager
def _lines(console: Console, update_ms: int) -> Iterator[Emit]:
    lines = _Lines(console, update_ms / 1000)
    is_over = threading.Event()
    clock = threading.Thread(target=lines.watch, args=(is_over,), name="progress", daemon=True)
    clock.start()
    try:
        yield lines.listen
    finally:
        is_over.set()
        clock.join()


class _Lines:
    """A line for each start, end and notice, one now and then for a source that moves, and one in a long silence."""

    def __init__(self, console: Console, update_seconds: float) -> None:
        self._console = console
        self._update_seconds = update_seconds
        self._source_seconds = max(SOURCE_SECONDS, update_seconds)
        self._guard = threading.Lock()
        self._shown: dict[tuple[str | None, ...], float] = {}
        self._counts: dict[str | None, dict[str | None, Mapping[str, int]]] = {}
        self._stage: str | None = None
        self._opened = self._last_line = time.monotonic()

    def listen(self, event: Event) -> None:
        """Show the event, if it is time to."""
        with self._guard:
            now = time.monotonic()
            if event.source is None and event.name == "started":
                self._stage, self._opened = event.stage, now
                self._counts.clear()
            elif event.source is None and event.name in ("finished", "failed"):
                self._stage = None
            elif event.source is not None and event.counts:
                parts = self._counts.setdefault(event.source, {})
                if event.partition is None:
                    parts.clear()  # these are the counts of all of it
                parts[event.partition] = event.counts
            if event.name == "progressed" and not self._is_due(event, now):
                return
            self._last_line = now
            self._print(event)

    def watch(self, is_over: threading.Event) -> None:
        """Say that a stage goes on where nothing else does, until it is over."""
        while not is_over.wait(min(1.0, self._source_seconds)):
            with self._guard:
                now = time.monotonic()
                if self._stage is None or now - self._last_line < self._source_seconds:
                    continue
                self._last_line = now
                detail = _count_words(_sum(each for parts in self._counts.values() for each in parts.values()))
                since = f"{self._stage} goes on since {now - self._opened:.0f} s"
                self._say(f"{since}: {detail}" if detail else since)

    def _is_due(self, event: Event, now: float) -> bool:
        key, pace = (event.stage, event.source), self._source_seconds if event.source else self._update_seconds
        if now - self._shown.setdefault(key, now) < pace:
            return False
        self._shown[key] = now
        return True

    def _print(self, event: Event) -> None:
        name, words, partition = event.name if event.name != "noticed" else "note", _words(event), event.partition
        if event.name == "progressed" and event.source is not None:
            words, partition = _count_words(_sum(self._counts.get(event.source, {}).values())), None
        detail = "; ".join(part for part in (event.message, words) if part)
        line = " ".join(part for part in (event.stage, event.source, partition, name) if part)
        self._say(f"{line}: {detail}" if detail else line)

    def _say(self, line: str) -> None:
        say(self._console, line)


def _sum(each: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    return sum(map(Counter, each), Counter())


def _words(event: Event) -> str:
    counts = dict(event.counts)
    if total := counts.pop("of_nodes", 0):
        return f"{counts['nodes']} of {total} nodes"
    return _count_words(counts)


def _count_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items() if value)
