"""A publish of a mart in which one row of a hundred has changed, beside its first publish."""

from pathlib import Path

from benchmarks.benches import Context
from benchmarks.measure import Command, Subject, Told
from benchmarks.publishes import check_publish, first_publish, marts, released

TITLE = "A publish in which 1 % of the rows have changed"
ORDER = 8
AGAINST = "penstock, first"


def subjects(context: Context) -> list[Subject]:
    """The publish of a change, and the first one."""
    made = marts(context, context.rows)
    before = released(context, made)

    def prepare(folder: Path) -> Command:
        return before.prepare(folder, 1)

    def check(_folder: Path, output: str) -> Told:
        delta = {"added": made.added, "changed": made.changed, "removed": made.removed}
        return check_publish(before.dsn, output, **delta, total=made.rows_after)

    note = f"{made.changed:,} rows changed, {made.added:,} added, {made.removed:,} removed"
    return [Subject("penstock", made.rows, prepare, check, note), first_publish(made, before.dsn, AGAINST)]
