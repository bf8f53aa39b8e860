"""12. The same input gives the same marts: twice from nothing, in one run or in two, on either warehouse."""

from collections.abc import Iterator

from tests.chaos import oracle, people
from tests.chaos.context import Context
from tests.chaos.engine import Kind, Round

TITLE = "the same input twice"


def rounds(context: Context) -> Iterator[Round]:
    """Each way to come to the same input; all hashes must be that of the model."""
    chance = context.engine.chance("files")
    files = people.next_files(people.first_files(chance), context.engine.chance("next files"))
    for number in range(context.count(8, 1)):
        kind: Kind = "postgres" if number % 4 == 3 else "duckdb"
        is_one_run = number % 2 == 0
        world = context.engine.world(kind, files) if is_one_run else context.engine.base(kind, "incremental").clone()
        try:
            problems = oracle.rerun_and_check(world)
            if not problems:
                found = oracle.hashed(oracle.published(world))
                problems = oracle.nothing_new(world) if is_one_run else []
                problems += [] if found == oracle.hashed(oracle.expected(world)) else [f"the hash is {found}"]
            yield Round(f"{number} {kind}, {'one run' if is_one_run else 'two runs'}", problems, 0)
        finally:
            world.remove()
