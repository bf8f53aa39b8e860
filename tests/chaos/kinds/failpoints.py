"""1. A real SIGKILL at every failpoint, over the first and an incremental run, on both warehouses."""

import signal
from collections.abc import Iterator

from tests.chaos import library_points, oracle
from tests.chaos.context import Context
from tests.chaos.engine import Kind, Round, State, World
from tests.chaos.points import ROLLBACK, WORKERS, find_failpoints

TITLE = "SIGKILL at every failpoint"
COMBINATIONS: tuple[tuple[Kind, State], ...] = (
    ("duckdb", "first"),
    ("duckdb", "incremental"),
    ("postgres", "first"),
    ("postgres", "incremental"),
)


def rounds(context: Context) -> Iterator[Round]:
    """Every point in every combination; in the short form each point once, the combinations taking turns."""
    names = [*find_failpoints(), *library_points.NAMES]
    reached: set[str] = set()
    for place, name in enumerate(context.chosen(names, "failpoints", short=6)):
        for kind, state in context.taking_turns(COMBINATIONS, place):
            problems = kill_at(context, name, kind, state)
            if problems is None:  # a step that this run has not
                continue
            reached.add(name)
            yield Round(f"{name} {kind} {state}", problems)
    if context.is_whole:
        yield Round("every failpoint is reached", [f"{name} never was" for name in names if name not in reached], 0)


def kill_at(context: Context, name: str, kind: Kind, state: State) -> list[str] | None:
    """One kill and what the oracle says; None where the run does not pass the point."""
    world = context.engine.base(kind, state).clone()
    try:
        before = oracle.published(world)
        if name in ROLLBACK:
            return _kill_rollback(world, name) if state == "incremental" else None
        if name.startswith("pending."):  # passed by the run after one that was cut off
            world.run("run", PENSTOCK_FAILPOINT="dlt.normalized_after")
        done = world.run("run", PENSTOCK_FAILPOINT=name)
        if done.code == 0:
            return None
        problems = []
        if (done.code == -signal.SIGKILL) == (name in WORKERS):
            problems.append(f"it did not die as it should: {done.told}")
        problems += oracle.is_whole(world, [before, oracle.expected(world)])
        return problems + oracle.rerun_and_check(world)
    finally:
        world.remove()


def _kill_rollback(world: World, name: str) -> list[str]:
    first = oracle.published(world)
    done = world.run("run")
    if done.code:
        return [f"the run before the rollback failed: {done.told}"]
    done = world.run("rollback", PENSTOCK_FAILPOINT=name)
    problems = [] if done.code == -signal.SIGKILL else [f"it did not die: {done.told}"]
    problems += oracle.is_whole(world, [first, oracle.expected(world)])
    done = world.run("rollback", "1")
    if done.code or oracle.published(world) != first:
        problems.append(f"the rollback after it is not what release 1 showed: {done.told}")
    return problems + oracle.rerun_and_check(world)
