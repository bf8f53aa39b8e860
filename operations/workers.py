"""Helper processes for what is slow to import: dbt and Great Expectations.

A worker imports its library while an earlier stage still runs, then waits for a job on stdin, so that nobody waits
for an import. Each job opens the warehouse in the worker alone and closes it before the worker answers. A worker
ends by itself when its parent is gone, so that a killed run leaves nobody behind who holds the warehouse.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from foundation.errors import PenstockError
from foundation.events import Emit, Event


class WorkerDiedError(PenstockError):
    """A helper process ended without an answer."""


class Worker:
    """A helper process that runs a module which calls `serve`; a context manager that ends it."""

    def __init__(self, module: str, root: Path, log: Path) -> None:
        self.module = module
        self.root = root
        self.log = log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "Worker":
        """Start the process and its import, once; returns at once."""
        if self._process is None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self.module],
                    cwd=self.root,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    # Ctrl-C goes to the run, which ends its workers in good order.
                    start_new_session=True,
                )
        return self

    def ask(self, job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
        """Have a job done and pass its events on. Raises WorkerDiedError when the process ends before it answers."""
        process = self.start()._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                if "event" in message:
                    emit(Event(**message["event"]))
                else:
                    return dict(message["answer"])
        except BrokenPipeError:
            pass
        raise WorkerDiedError(
            f"the process of {self.module} ended with code {process.wait()}",
            where=str(self.log),
            fix="read its log, run again",
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        if error is not None:
            process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()


def serve(warm_up: Callable[[], None], work: Callable[[Mapping[str, Any], Emit], Mapping[str, Any]]) -> None:
    """The worker's side: import with `warm_up`, then have `work` answer a job a line until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print goes to the log

    def emit(event: Event) -> None:
        fields = {name: getattr(event, name) for name in ("name", "stage", "source", "message")}
        print(json.dumps({"event": {**fields, "counts": dict(event.counts)}}), file=answers)

    jobs = _Jobs()
    warm_up()
    while (job := jobs.next()) is not None:
        print(json.dumps({"answer": work(job, emit)}, default=str), file=answers)
    # Nothing is left to do, and taking apart what the libraries set up would make the run wait for seconds.
    answers.flush()
    os._exit(0)


class _Jobs:
    """Lines of stdin. When stdin ends in the middle of a job the parent is gone, and so is the process."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._is_idle = True
        self._changed = threading.Condition()
        self._is_over = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            with self._changed:
                self._lines.append(line)
                self._changed.notify()
        with self._changed:
            self._is_over = True
            self._changed.notify()
            if not self._is_idle:
                os._exit(1)

    def next(self) -> dict[str, Any] | None:
        """The next job, or None when there will be none."""
        with self._changed:
            self._is_idle = True
            while not self._lines:
                if self._is_over:
                    return None
                self._changed.wait()
            self._is_idle = False
            return dict(json.loads(self._lines.pop(0)))
