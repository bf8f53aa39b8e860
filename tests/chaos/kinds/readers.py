"""8. Eight sessions read while releases are published: no error, no mixed release, and nobody waits."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.context import Context
from tests.chaos.engine import ROOT, Round
from tests.integration.test_publish_faults import go, put_version, warehouse_of

TITLE = "readers while releases are published"
LONGEST_P99 = 0.1
SESSIONS = [
    (isolation, marts)
    for isolation in ("read committed", "repeatable read")
    for marts in (("orders", "totals"), ("totals", "orders"))
] * 2


def rounds(context: Context) -> Iterator[Round]:
    """One round: so many publishes while all sessions read."""
    publishes = context.count(200, 10)
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=context.engine.folder))
    dsn = context.engine.database()
    try:
        warehouse = folder / "warehouse.duckdb"
        shutil.copy(warehouse_of(folder, 1), warehouse)
        go(warehouse, dsn)
        sessions = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.reader", dsn, isolation, *marts],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for isolation, marts in SESSIONS
        ]
        try:
            for version in range(2, publishes + 2):
                put_version(warehouse, version)
                go(warehouse, dsn)
            found = [json.loads(session.communicate(timeout=60)[0]) for session in sessions]
        finally:
            for session in sessions:
                session.kill()
                session.wait()
        seconds = sorted(second for one in found for second in one["seconds"])
        p99 = seconds[int(0.99 * len(seconds))]
        context.say(f"  {publishes} publishes, {len(seconds):,} reads by 8 sessions, p99 {1000 * p99:.0f} ms")
        problems = [f"an error: {error}" for one in found for error in one["errors"]]
        problems += [f"a mixed release: {mixed}" for one in found for mixed in one["mixed"]]
        if p99 > LONGEST_P99 and not context.is_short:  # the short form runs beside other tests
            problems.append(f"p99 is {1000 * p99:.0f} ms")
        if any(len(one["seconds"]) < publishes for one in found):
            problems.append("a session read less often than was published")
        yield Round(f"{publishes} publishes, {len(seconds)} reads", problems, publishes)
    finally:
        context.engine.drop(dsn)
        shutil.rmtree(folder, ignore_errors=True)
