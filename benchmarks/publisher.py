"""What the benches of publishing run, each as a command: `python -m benchmarks.publisher NAME ARGUMENTS...`."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

STATEMENT = (
    "select (select count(*) from employees), (select sum(salary) from employees),"
    " (select count(*) from payslips), (select sum(salary) from payslips)"
)
SNAPSHOT = ("select count(*), sum(salary) from employees", "select count(*), sum(salary) from payslips")
KILLED_AFTER_SECONDS = 60.0


def publish(warehouse: str, dsn: str, outputs: str) -> dict[str, Any]:
    """The marts of a warehouse, once; what was made of them, and the seconds without the start of the process."""
    from benchmarks.marts import OUTPUTS
    from foundation.events import ignore
    from foundation.imports import refuse_import
    from publishing.publish import publish as publish_marts
    from publishing.releases import Origin
    from publishing.target import Destination

    refuse_import("pandas")  # as the command line does
    started = time.perf_counter()
    release = publish_marts(Path(warehouse), OUTPUTS[outputs], Destination(dsn), Origin("bench"), ignore)
    seconds = time.perf_counter() - started
    marts = {mart: asdict(delta) for mart, delta in release.marts.items()}
    return {"seconds": seconds, "is_new": release.is_new, "marts": marts}


def alternate(warehouse: str, dsn: str, publishes: str, expected: str) -> dict[str, Any]:
    """Two versions of two marts by turns; where `expected` names their sums, beside a process that reads them."""
    from benchmarks.marts import show_version

    reader = _start_reader(dsn, expected) if expected else None
    seconds, releases = 0.0, 0
    try:
        for number in range(1, int(publishes) + 1):
            show_version(Path(warehouse), number % 2)
            told = publish(warehouse, dsn, "two")
            seconds += told["seconds"]
            releases += told["is_new"]
    finally:
        found = _end(reader) if reader else {}
    return {"seconds": seconds, "releases": releases, **found}


def read(dsn: str, expected: str) -> dict[str, Any]:
    """Read both marts, in one statement and in one snapshot by turns, until standard input ends."""
    import psycopg

    versions = [tuple(sums) for sums in json.loads(expected)]
    is_over = threading.Event()
    threading.Thread(target=_await_end, args=[is_over], daemon=True).start()
    waits: list[float] = []
    seen: dict[tuple[str, ...], int] = dict.fromkeys(versions, 0)
    errors: list[str] = []
    mixed = 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        print("reading", flush=True)  # noqa: T201 - for the process that waits for it
        while not is_over.is_set():
            for query in (_in_one_statement, _in_one_snapshot):
                started = time.perf_counter()
                try:
                    sums = query(connection)
                except psycopg.Error as error:
                    errors.append(str(error).splitlines()[0])
                    sums = None
                waits.append(time.perf_counter() - started)
                if sums in seen:
                    seen[sums] += 1
                elif sums is not None:
                    mixed += 1
    return {
        "reads": len(waits),
        "longest_wait_s": max(waits, default=0.0),
        "errors": len(errors),
        "mixed": mixed,
        "of_each_version": list(seen.values()),
        "first_error": errors[0] if errors else "",
    }


def _await_end(is_over: threading.Event) -> None:
    sys.stdin.read()
    is_over.set()


def _in_one_statement(connection: Any) -> tuple[str, ...]:
    return tuple(map(str, connection.execute(STATEMENT).fetchone()))


def _in_one_snapshot(connection: Any) -> tuple[str, ...]:
    with connection.transaction():
        return tuple(str(value) for query in SNAPSHOT for value in connection.execute(query).fetchone())


def _start_reader(dsn: str, expected: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.publisher", "read", dsn, expected],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():  # from now on it reads
        raise RuntimeError(f"the reader ended with {process.wait()} before it read")
    return process


def _end(reader: subprocess.Popen[str]) -> Mapping[str, Any]:
    try:
        answer, _ = reader.communicate(timeout=KILLED_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        reader.kill()
        raise
    return dict(json.loads(answer.splitlines()[-1]))


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    command.__name__: command for command in (publish, alternate, read)
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])) + "\n")
