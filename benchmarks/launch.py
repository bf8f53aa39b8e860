"""Run one command and tell what it took: `python -m benchmarks.launch '{"argv": [...], ...}'` prints a line of JSON.

It is a process of its own because the kernel counts the memory of the process that starts a command as the command's
own until that begins; this one is small whatever the benchmark around it holds.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

SAMPLE_SECONDS = 0.05


def launch(argv: list[str], cwd: str, environment: dict[str, str], output: str, time_limit: float) -> dict[str, Any]:
    """Run `argv` and its children, ended after `time_limit` seconds; their standard output and error go to a file.

    wall_s and cpu_s are seconds; peak_mb the most memory held at once by the whole tree, as sampled, or by its largest
    process, as the kernel counted, whichever is more; MB are 10^6 bytes.
    """
    with Path(output).open("wb") as file:
        started = time.perf_counter()
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its children can be ended with it
        )
    watch = _Watch(process.pid, time_limit)
    try:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        watch.stop()
        _end_all(process.pid)  # also children that outlived it: they would disturb what is measured next
    largest_process = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "exit_code": process.returncode,
        "is_timed_out": watch.is_timed_out,
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": max(largest_process, watch.peak_bytes) / 1e6,
        "peak_process_mb": largest_process / 1e6,
    }


def _end_all(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


class _Watch:
    """Samples the memory of a process and its children; ends them all when their time is over or nobody waits."""

    def __init__(self, pid: int, time_limit: float) -> None:
        self.peak_bytes = 0
        self.is_timed_out = False
        self._pid = pid
        self._asked_by = os.getppid()
        self._deadline = time.monotonic() + time_limit
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(SAMPLE_SECONDS):
            if time.monotonic() > self._deadline:
                self.is_timed_out = True
            if self.is_timed_out or os.getppid() != self._asked_by:
                _end_all(self._pid)
            held = 0
            with suppress(psutil.Error):
                root = psutil.Process(self._pid)
                for process in (root, *root.children(recursive=True)):
                    with suppress(psutil.Error):
                        held += process.memory_info().rss
            self.peak_bytes = max(self.peak_bytes, held)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, which ends the command too
    sys.stdout.write(json.dumps(launch(**json.loads(sys.argv[1]))) + "\n")
