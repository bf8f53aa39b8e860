"""2. Kills at random moments: SIGKILL, SIGTERM, a stop and its end, and the death of a worker alone."""

import contextlib
import random
import signal
import time
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped, unused-ignore]

from tests.chaos import oracle
from tests.chaos.context import Context
from tests.chaos.engine import Kind, Round, Running, State

TITLE = "kills at random moments"
WAYS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP", "worker")
BASES: tuple[tuple[Kind, State], ...] = (
    ("duckdb", "first"),
    ("duckdb", "incremental"),
    ("duckdb", "incremental"),
    ("postgres", "incremental"),
)
STOPPED_SECONDS = 0.3


def rounds(context: Context) -> Iterator[Round]:
    """Each at a moment of its own, anywhere between start and end of a run."""
    lasted: dict[tuple[Kind, State], float] = {}
    for number in range(context.count(300, 4)):
        chance = context.engine.chance("kills", number)
        way, base = WAYS[number % len(WAYS)], chance.choice(BASES)
        if base not in lasted:
            lasted[base] = _undisturbed(context, base)
        yield _round(context, f"{number} {way} {' '.join(base)}", way, base, lasted[base], chance)


def _undisturbed(context: Context, base: tuple[Kind, State]) -> float:
    world = context.engine.base(*base).clone()
    try:
        return world.run("run").seconds
    finally:
        world.remove()


def _round(
    context: Context, case: str, way: str, base: tuple[Kind, State], lasts: float, chance: random.Random
) -> Round:
    world = context.engine.base(*base).clone()
    try:
        before = oracle.published(world)
        running = world.start("run")
        moment = chance.uniform(0, lasts)
        time.sleep(moment)
        _strike(running, way, chance)
        done = running.wait()
        problems = oracle.is_whole(world, [before, oracle.expected(world)])
        if way == "SIGSTOP" and done.code:
            problems.append(f"a stop is no reason to fail: {done.told}")
        if way == "SIGTERM" and done.code not in (0, 130, -signal.SIGTERM):
            problems.append(f"told to end, it did otherwise: {done.told}")
        if "Traceback" in done.output and way != "SIGKILL":
            problems.append(f"a traceback: {done.told}")
        problems += oracle.rerun_and_check(world)
        return Round(f"{case} after {moment:.2f} s", problems)
    finally:
        world.remove()


def _strike(running: Running, way: str, chance: random.Random) -> None:
    if way == "worker":
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(running.pid).children()
        if children:
            with contextlib.suppress(psutil.Error):
                chance.choice(children).kill()
    elif way == "SIGSTOP":
        running.signal(signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        running.signal(signal.SIGCONT)
    else:
        running.signal(getattr(signal, way))
