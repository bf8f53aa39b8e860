"""Progress: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from foundation.events import Emit, Event


@contextmanager
def progress(console: Console, update_ms: int) -> Iterator[Emit]:
    """A listener that shows how far every stage and source is, at most every `update_ms` milliseconds."""
    if console.is_terminal:
        with _bars(console) as listener:
            yield listener
    else:
        yield _lines(console, update_ms)


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


def _lines(console: Console, update_ms: int) -> Emit:
    shown: dict[tuple[str | None, ...], float] = {}

    def listen(event: Event) -> None:
        key = (event.stage, event.source, event.partition)
        now = time.monotonic()
        if event.name == "progressed":
            if (now - shown.setdefault(key, now)) * 1000 < update_ms:
                return
            shown[key] = now
        if event.name == "started" and event.source is None:
            shown[key] = now
        parts = [
            event.stage,
            event.source or "",
            event.partition or "",
            event.name if event.name != "noticed" else "note",
        ]
        detail = "; ".join(part for part in (event.message, _words(event)) if part)
        line = " ".join(part for part in parts if part) + (f": {detail}" if detail else "")
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return listen


def _words(event: Event) -> str:
    counts = dict(event.counts)
    if total := counts.pop("of_nodes", 0):
        return f"{counts['nodes']} of {total} nodes"
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items() if value)
