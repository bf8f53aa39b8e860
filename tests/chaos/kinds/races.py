"""9. Two runs at once: one goes on, the other leaves within two seconds with the exit code of its own."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack

from foundation.warehouse import open_warehouse, warehouse_at
from tests.chaos import oracle
from tests.chaos.context import Context
from tests.chaos.engine import Done, Kind, Round, Running, World
from tests.warm import Warm

TITLE = "two runs at once"
LONGEST_REFUSAL = 2.0
LONGEST_REFUSAL_BESIDE_OTHERS = 20.0  # the short form runs beside other tests
LONGEST_OVERLAP = 0.2  # a run notes its start just before it takes the lock, and its end before it lets go
LOCKED = 3
# On one machine the work folder is locked; two machines meet only in a Postgres warehouse.
WAYS: tuple[tuple[Kind, str], ...] = (("duckdb", "one folder"), ("duckdb", "one folder"), ("postgres", "two machines"))


def rounds(context: Context) -> Iterator[Round]:
    """The second starts at a moment of chance within the first."""
    rivals = context.engine.second_warm()
    for number in range(context.count(50, 1)):
        kind, way = WAYS[number % len(WAYS)]
        chance = context.engine.chance("races", number)
        yield _round(context, f"{number} {kind}, {way}", kind, way, chance, rivals)


def _round(context: Context, case: str, kind: Kind, way: str, chance: random.Random, rivals: Warm) -> Round:
    with ExitStack() as stack:
        world = context.engine.base(kind, "incremental").clone()
        stack.callback(world.remove)
        other = world
        if way == "two machines":
            root = world.root.with_name(f"{world.root.name}-other")
            base = context.engine.base(kind, "incremental").clone()
            stack.callback(base.remove)
            base.root.rename(root)
            base.root = root
            other = World(world.engine, root, world.dsn, world.warehouse_url, world.files)
        first = world.start("run")
        time.sleep(chance.choice((0.0, chance.uniform(0, 0.3), chance.uniform(0, 2))))
        second = _start(other, rivals)
        ends = {"second": second.wait(), "first": first.wait()}
        longest = LONGEST_REFUSAL_BESIDE_OTHERS if context.is_short else LONGEST_REFUSAL
        problems = _judge(world, ends, longest)
        return Round(case, problems + oracle.rerun_and_check(world), 1)


def _start(world: World, warm: Warm) -> Running:
    output = world.engine.folder / f"{world.root.name}.second"
    output.touch()
    pid = warm.start(["run"], world.root, world.environment({}), output)
    return Running(pid, warm.wait, output, 120)


def _judge(world: World, ends: dict[str, Done], longest: float) -> list[str]:
    codes = sorted(done.code for done in ends.values())
    if codes == [0, 0]:
        return _overlap(world)
    if codes != [0, LOCKED]:
        return [f"{who}: {done.told}" for who, done in ends.items()]
    refused = next(done for done in ends.values() if done.code == LOCKED)
    if refused.seconds > longest:
        return [f"it took {refused.seconds:.1f} s to leave"]
    return [] if "another run is going" in refused.output else [f"it does not say why: {refused.told}"]


def _overlap(world: World) -> list[str]:
    """What is wrong with two runs that both went well: one must have ended before the other began."""
    with open_warehouse(warehouse_at(world.warehouse_url or str(world.work_dir / "warehouse.duckdb"))) as connection:
        (row,) = connection.execute(
            "select epoch(max(started_at)) - epoch(min(finished_at)) from"
            " (select * from ops.runs order by started_at desc limit 2)"
        ).fetchall()
    return [f"both went on: they overlap by {-row[0]:.1f} s"] if row[0] < -LONGEST_OVERLAP else []
