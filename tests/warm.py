"""A process that has imported every library and forks one process for each command, so that no command costs an import.

A request is a line of JSON on stdin: arguments, folder, environment and the files for what it prints. The replies are
its pid, and how it ended. The commands and their workers are processes of their own, and die as any other.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# What dbt, dlt and Great Expectations import late is imported here too.
LIBRARIES = (
    "great_expectations",
    "great_expectations.expectations",
    "great_expectations.data_context.types.base",
    "duckdb_sqlalchemy",
    "dbt.adapters.duckdb",
    "dbt.adapters.postgres",
    "dbt.cli.main",
    "dbt.task.build",
    "adbc_driver_postgresql.dbapi",
    "dlt.destinations.impl.duckdb.duck",
    "dlt.destinations.impl.postgres.postgres",
    "ingestion.pipeline",
    "ingestion.ingest",
    "ingestion.readers.apis.reader",
    "operations.run",
    "operations.build",
    "operations.gate",
    "operations.site.pages",
    "publishing.publish",
    "publishing.exports",
    "publishing.rollback",
)


class Forked:
    """A worker that was forked from the run instead of started anew; what Worker needs of subprocess.Popen."""

    def __init__(self, module: str, root: Path, log: Path) -> None:
        job_read, job_write = os.pipe()
        answer_read, answer_write = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            with log.open("a") as errors:
                _settle({0: job_read, 1: answer_write, 2: errors.fileno()}, root, dict(os.environ))
            _end(lambda: _serve(module))
        os.close(job_read)
        os.close(answer_write)
        self.stdin = os.fdopen(job_write, "w")
        self.stdout = os.fdopen(answer_read)

    def kill(self) -> None:
        """End it at once."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """How it ended."""
        del timeout
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def _serve(module: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "expectations"]:
        del sys.modules[name]  # the suites are those of the project
    sys.path.insert(0, str(Path.cwd()))
    found = importlib.import_module(module)
    from operations.workers import serve

    serve(found.warm_up, found.work)


def _settle(places: dict[int, int], folder: Path, environment: dict[str, str]) -> None:
    """Give a forked process its own files, folder, environment and signals."""
    os.setsid()
    for number, source in places.items():
        os.dup2(source, number)
    # Not closed: objects that still hold the numbers would close what gets them next.
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):
            if number > 2 and number != nothing:
                os.fstat(number)
                os.dup2(nothing, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
    import logging

    logging.root.handlers.clear()


def _end(work: Any) -> None:
    code = 1
    try:
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - what a process of its own would print
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            for thread in threading.enumerate():  # as the interpreter does at its end
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def command(arguments: list[str]) -> None:
    """`penstock` with these arguments, as a user starts it; ends the process."""
    from foundation import failpoints
    from operations import cli

    failpoints.arm()
    sys.argv = ["penstock", *arguments]
    cli.main()


def _command(entry: str, arguments: list[str]) -> None:
    from operations.workers import Worker

    def start(self: Worker) -> Worker:
        if self._process is None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._process = Forked(self.module, self.root, self.log)  # type: ignore[assignment]
        return self

    Worker.start = start  # type: ignore[method-assign]
    importlib.import_module(entry).command(arguments)


def main() -> None:
    """Import everything, then fork a process for each request."""
    from foundation.telemetry import switch_off_telemetry

    switch_off_telemetry()
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # or every child would look through all of it again
    print(json.dumps({"ready": os.getpid()}), file=replies)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            with Path(job["output"]).open("ab") as output, Path(job["errors"]).open("ab") as errors:
                nothing = os.open(os.devnull, os.O_RDONLY)
                _settle({0: nothing, 1: output.fileno(), 2: errors.fileno()}, Path(job["folder"]), job["environment"])
            _end(lambda arguments=job["arguments"]: _command(sys.argv[1], arguments))
        print(json.dumps({"pid": pid}), file=replies)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code}), file=replies)


class Warm:
    """The process, from outside. `entry` is the module with the `command` that it forks."""

    def __init__(self, entry: str = "tests.warm") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", entry],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._reply()

    def _reply(self) -> dict[str, int]:
        line = self._replies.readline()
        if not line:
            raise RuntimeError("the warm process has ended")
        return dict(json.loads(line))

    def start(
        self, arguments: list[str], folder: Path, environment: dict[str, str], output: Path, errors: Path | None = None
    ) -> int:
        """Start a command; its pid."""
        job = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "output": str(output),
            "errors": str(errors or output),
        }
        self._requests.write(json.dumps(job) + "\n")
        self._requests.flush()
        return self._reply()["pid"]

    def wait(self) -> int:
        """How the command ended; blocks until it has."""
        return self._reply()["code"]

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self._process.wait(timeout=30)


if __name__ == "__main__":
    main()
