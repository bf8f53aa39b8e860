"""Measure subjects: each a fresh process in a fresh folder, side by side in turn, its work checked every time."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# What a subject may see of the environment: nothing that could be a setting of it.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT")
_TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "INGESTR_DISABLE_TELEMETRY": "true",
    "SLING_DISABLE_TELEMETRY": "TRUE",
}


class SubjectError(Exception):
    """A subject that failed, ran out of time or did not do its work."""


@dataclass(frozen=True)
class Command:
    """What a subject runs; `environment` is added to the little that every subject gets."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """What one run of a command took. Seconds, and MB of 10^6 bytes; `own_s` is what the subject says of itself."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    peak_process_mb: float
    output: str
    own_s: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Told:
    """What a subject says of a run of its own accord: its own seconds, and a note."""

    own_s: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """One way to do the work of a bench.

    `prepare` gets a new folder and gives the command to measure; `check` gets the folder and the output, raises
    SubjectError unless the work was done and may give what the subject says of its own seconds, or more. Neither is
    measured.
    """

    name: str
    rows: int
    prepare: Callable[[Path], Command]
    check: Callable[[Path, str], Told | float | None]
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """How a bench is run: how often, for how long, and where its files are."""

    runs: int
    has_warm_up: bool
    time_limit: float
    folder: Path
    say: Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """A subject beside the one named `against`: its ratio is seconds per row over that one's seconds per row."""

    bench: str
    subject: str
    against: str
    rows: int
    runs: int
    median_s: float | None
    ratio: float | None
    peak_mb: float | None
    time_ratio: float | None = None
    cpu_s: float | None = None
    own_s: float | None = None
    rows_per_s: float | None = None
    all_s: Sequence[float] = ()
    note: str = ""
    error: str = ""


def measure(bench: str, subjects: Sequence[Subject], against: str, plan: Plan) -> list[Result]:
    """Run the subjects A B C A B C ..., after a round for the page cache that does not count.

    A subject that fails is told in its result and left out from then on.
    """
    taken: dict[str, list[Measurement]] = {subject.name: [] for subject in subjects}
    errors: dict[str, str] = {}
    for number in range(0 if plan.has_warm_up else 1, plan.runs + 1):
        for subject in subjects:
            if subject.name in errors:
                continue
            try:
                measurement = run_subject(subject, plan)
            except SubjectError as error:
                errors[subject.name] = str(error)
                plan.say(f"{bench}: {subject.name} failed: {error}")
                continue
            if number:
                taken[subject.name].append(measurement)
            count = f"run {number} of {plan.runs}" if number else "warm-up"
            plan.say(
                f"{bench}: {subject.name}, {count}: {measurement.wall_s:.2f} s, {measurement.peak_mb:,.0f} MB at most"
            )
    return _results(bench, subjects, against, taken, errors)


def run_subject(subject: Subject, plan: Plan) -> Measurement:
    """Prepare, run and check a subject once. Raises SubjectError."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=plan.folder))
    try:
        command = subject.prepare(folder)
        os.sync()  # what others left to be written is not this one's to wait for
        measurement = run_command(command, folder, plan.time_limit)
        said = subject.check(folder, measurement.output)
        told = said if isinstance(said, Told) else Told(said)
        return replace(measurement, own_s=told.own_s, note=told.note)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_command(command: Command, folder: Path, time_limit: float) -> Measurement:
    """Run a command from the project's root with `folder` for its temporary files. Raises SubjectError."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {**_TELEMETRY_OFF, "TMPDIR": str(temporary), **command.environment}
    output = folder / "output.txt"
    order = {
        "argv": list(command.argv),
        "cwd": str(ROOT),
        "environment": environment,
        "output": str(output),
        "time_limit": time_limit,
    }
    launcher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.launch", json.dumps(order)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        answer, complaint = launcher.communicate()
    except BaseException:
        launcher.terminate()  # and not kill: it ends the command with it
        launcher.communicate()
        raise
    if launcher.returncode:
        raise SubjectError(_last_line(complaint) or f"the launcher ended with {launcher.returncode}")
    told: dict[str, Any] = json.loads(answer)
    text = output.read_text(encoding="utf-8", errors="replace")
    if told.pop("is_timed_out"):
        raise SubjectError(f"not done after {time_limit:g} s")
    if exit_code := told.pop("exit_code"):
        raise SubjectError(f"exit code {exit_code}: {_last_line(text)}")
    return Measurement(**told, output=text)


def stop_when_told() -> None:
    """Take a signal to end as an exception, so that whatever was started is stopped and cleared away."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def expect_rows(found: int, expected: int, what: str = "rows") -> None:
    """Raises SubjectError unless the numbers are the same."""
    if found != expected:
        raise SubjectError(f"{found:,} {what} instead of {expected:,}")


@contextmanager
def scratch(data_dir: Path) -> Iterator[Path]:
    """A folder for what the runs write, gone afterwards."""
    data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=data_dir))
    folder.chmod(0o755)  # the embedded Postgres may run as another user
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _results(
    bench: str,
    subjects: Sequence[Subject],
    against: str,
    taken: Mapping[str, Sequence[Measurement]],
    errors: Mapping[str, str],
) -> list[Result]:
    rows = {subject.name: subject.rows for subject in subjects}
    medians = {name: statistics.median(one.wall_s for one in found) for name, found in taken.items() if found}
    base = medians.get(against) if against not in errors else None
    results = []
    for subject in subjects:
        if subject.name in errors:
            results.append(
                Result(bench, subject.name, against, subject.rows, 0, None, None, None, error=errors[subject.name])
            )
            continue
        found, seconds = taken[subject.name], medians[subject.name]
        owns = [one.own_s for one in found if one.own_s is not None]
        results.append(
            Result(
                bench,
                subject.name,
                against,
                subject.rows,
                len(found),
                median_s=round(seconds, 4),
                ratio=round(seconds / subject.rows / (base / rows[against]), 4) if base else None,
                peak_mb=round(max(one.peak_mb for one in found), 1),
                time_ratio=round(seconds / base, 4) if base else None,
                cpu_s=round(statistics.median(one.cpu_s for one in found), 4),
                own_s=round(statistics.median(owns), 4) if owns else None,
                rows_per_s=round(subject.rows / seconds, 1),
                all_s=[round(one.wall_s, 4) for one in found],
                note="; ".join(filter(None, (subject.note, found[-1].note))),
            )
        )
    return results


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")[:300]
