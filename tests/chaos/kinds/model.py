"""11. Random sequences of operations against a model in plain Python; one that fails is shrunk and printed."""

from collections.abc import Iterator

from tests.chaos import people, sequences
from tests.chaos.context import Context
from tests.chaos.engine import Round

TITLE = "random sequences against a model"


def rounds(context: Context) -> Iterator[Round]:
    """Sequences of 30 operations, each by a seed of its own."""
    engine = context.engine
    base = engine.world("duckdb", people.first_files(engine.chance("model"), sequences.SIZE))
    try:
        # Twice: dbt compiles the models for raw tables that are there.
        for _ in range(2):
            done = base.run("run")
            if done.code:
                yield Round("the world of all sequences", [done.told], 0)
                return
        models = sequences.compiled(base)
        for number in range(context.count(1000, 10)):
            steps = sequences.operations(engine.chance("sequence", number))
            problems = sequences.play(engine, base, models, steps)
            if problems:
                few = sequences.shrunk(engine, base, models, steps)
                problems.append(f"in short: {few}")
            yield Round(f"sequence {number}", problems, sum(name == "crash" for name, _ in steps))
    finally:
        base.remove()
