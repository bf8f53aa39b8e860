"""Two versions of two marts published by turns while somebody reads both: one release at a time, and no waits."""

import json
import shutil
from pathlib import Path

from benchmarks.benches import Context
from benchmarks.marts import Marts, sums
from benchmarks.measure import Command, Subject, Told, run_command
from benchmarks.publishes import check_readers, marts, new_database, publisher_command, told

TITLE = "Readers of two marts while these are published"
ORDER = 10
AGAINST = "penstock, unread"
MOST_ROWS = 100_000
MOST_PUBLISHES = 50
SHARE = 0.1
LONGEST_WAIT_S = 1.0


def subjects(context: Context) -> list[Subject]:
    """The same publishes with a reader and without. With one that met an error, a wait or a mixture it is a failure."""
    made, dsn = marts(context, min(context.rows, MOST_ROWS), SHARE), context.postgres()
    publishes = min(MOST_PUBLISHES, max(made.rows // 2000, 4))
    return [
        _publishes("penstock", made, dsn, publishes, context.plan.time_limit, json.dumps(sums(made.warehouse))),
        _publishes(AGAINST, made, dsn, publishes, context.plan.time_limit, ""),
    ]


def _publishes(name: str, made: Marts, dsn: str, publishes: int, time_limit: float, expected: str) -> Subject:
    def prepare(folder: Path) -> Command:
        warehouse = Path(shutil.copy(made.warehouse, folder))
        database = new_database(dsn)
        run_command(publisher_command("publish", str(warehouse), database, "two"), folder, time_limit)
        return publisher_command("alternate", str(warehouse), database, str(publishes), expected)

    def check(_folder: Path, output: str) -> Told:
        found = told(output)
        return Told(found["seconds"], check_readers(found, publishes, LONGEST_WAIT_S) if expected else "")

    return Subject(name, made.rows, prepare, check, f"{publishes} publishes of two marts, {SHARE:.0%} changed by each")
