"""A publish of a mart that is as it was, beside a process that only connects."""

from pathlib import Path

from benchmarks.benches import Context
from benchmarks.measure import Command, Subject, SubjectError, Told
from benchmarks.publishes import check_publish, marts, new_database, released, told
from benchmarks.subjects import rival_command

TITLE = "A publish in which nothing has changed"
ORDER = 9
AGAINST = "connect"


def subjects(context: Context) -> list[Subject]:
    """The publish of nothing, and the least that any process costs that asks both databases something."""
    made = marts(context, context.rows)
    before = released(context, made)

    def prepare(folder: Path) -> Command:
        return before.prepare(folder, 0)

    def check(_folder: Path, output: str) -> Told:
        if told(output)["is_new"]:
            raise SubjectError("a release was made of nothing")
        return check_publish(before.dsn, output, total=made.rows)

    def prepare_connect(_folder: Path) -> Command:
        return rival_command("connect", str(made.warehouse), new_database(before.dsn))

    return [
        Subject("penstock", made.rows, prepare, check),
        Subject(AGAINST, made.rows, prepare_connect, lambda _folder, _output: None, "start, open, connect, no more"),
    ]
