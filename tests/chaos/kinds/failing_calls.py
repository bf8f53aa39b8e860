"""3. The Nth call fails: writes, renames, syncs, opens, folders, database calls, until a run has none left to fail."""

from collections.abc import Iterator

from tests.chaos import oracle
from tests.chaos.context import Context
from tests.chaos.engine import Round
from tests.chaos.failing import CALLS

TITLE = "the Nth call fails"
ERRORS = {"write": ("ENOSPC", "EIO"), "replace": ("EIO",), "fsync": ("EIO",), "open": ("ENOSPC",), "mkdir": ("ENOSPC",)}
MOST = 200  # more calls than any kind has


def rounds(context: Context) -> Iterator[Round]:
    """Every N of every call; of a selection N in steps, so that each kind of call is met."""
    wanted = context.count(10_000, 4)
    ways = [(call, error) for call in CALLS for error in ERRORS.get(call, ("EIO",))]
    if context.is_whole:
        for call, error in ways:
            for number in range(1, MOST):
                found = _round(context, call, number, error)
                if found is None:
                    break
                yield found
        return
    done = 0
    for number in range(1, MOST):
        for call, error in ways:
            found = _round(context, call, 3 * number - 2, error)
            if found is not None:
                yield found
                done += 1
            if done == wanted:
                return


def _round(context: Context, call: str, number: int, error: str) -> Round | None:
    world = context.engine.base("duckdb", "incremental").clone()
    try:
        before = oracle.published(world)
        reached = world.root / "reached"
        done = world.run("run", CHAOS_FAIL=f"{call}:{number}:{error}", CHAOS_REACHED=str(reached))
        if not reached.exists():
            return None
        problems = oracle.is_whole(world, [before, oracle.expected(world)])
        if "Traceback" in done.output:
            problems.append(f"a traceback: {done.told}")
        if done.code and "error: " not in done.output:
            problems.append(f"a failure without a word: {done.told}")
        if done.code == 0 and oracle.published(world) != oracle.expected(world):
            problems.append("a success that is none")
        return Round(f"{call} {number} {error}", problems + oracle.rerun_and_check(world))
    finally:
        world.remove()
