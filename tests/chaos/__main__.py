"""`make chaos`: the kinds of faults one after the other, the table of their rounds, and the same as JSON."""

import json
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.chaos.context import Context
from tests.chaos.engine import engine

TOLD_SECONDS = 60.0  # between two lines of one kind
RESULTS = Path(__file__).parent / "results"
KINDS = (
    "failpoints",
    "kills",
    "failing_calls",
    "http",
    "malformed",
    "disk_full",
    "postgres",
    "readers",
    "races",
    "state_lost",
    "model",
    "determinism",
    "guards",
    "offline",
)


@dataclass
class Result:
    """What a kind came to."""

    kind: str
    title: str
    seed: int
    made_at: str
    rounds: int = 0
    faults: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


def main(
    short: Annotated[bool, typer.Option("--short", help="A few rounds of each kind, under 5 minutes.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this kind; may be given again.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed makes the same rounds; default: one of chance.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="So many rounds of each kind.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Start every command anew instead of forking it.")] = False,
    out: Annotated[Path, typer.Option(help="The folder for latest.json, or short.json.")] = RESULTS,
) -> None:
    """Make faults happen, and ask the oracle after each."""
    signal.signal(signal.SIGTERM, _stop)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    console = Console(width=None if sys.stdout.isatty() else 150)
    if unknown := set(only or ()) - set(KINDS):
        raise typer.BadParameter(f"no kind is named {min(unknown)}; there are {', '.join(KINDS)}")
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(f"seed {seed}")
    results: list[Result] = []
    try:
        with engine(seed, is_cold=cold) as running:
            context = Context(running, short, rounds, say)
            for name in only or KINDS:
                module = import_module(f"tests.chaos.kinds.{name}")
                results.append(result := Result(name, module.TITLE, seed, f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}"))
                _measure(result, module.rounds(context), context)
                _write(out / ("short.json" if short else "latest.json"), results)
    finally:
        _print(results, console)
    if any(result.violations for result in results):
        raise typer.Exit(1)


def _measure(result: Result, found: object, context: Context) -> None:
    started = time.monotonic()
    context.say(f"{result.kind}: {result.title}")
    told = started
    for one in found:  # type: ignore[attr-defined]
        result.rounds += 1
        result.faults += one.faults
        result.seconds = round(time.monotonic() - started, 1)
        for problem in one.problems:
            result.violations.append(f"{one.case}: {problem}")
            context.say(f"  VIOLATION {result.violations[-1]}")
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            context.say(f"  {result.rounds} rounds, {told - started:.0f} s, {one.case}")
    result.seconds = round(time.monotonic() - started, 1)
    context.say(f"  {result.rounds} rounds, {len(result.violations)} violations, {result.seconds:.0f} s")


def _write(file: Path, results: list[Result]) -> None:
    """Write the kinds down; those of earlier calls stay until they are measured anew."""
    file.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(file.read_text(encoding="utf-8"))["kinds"] if file.exists() else []
    kinds = {kind["kind"]: kind for kind in [*found, *map(asdict, results)]}
    document = {
        "kinds": [kinds[name] for name in KINDS if name in kinds],
        "rounds": sum(kind["rounds"] for kind in kinds.values()),
        "faults": sum(kind["faults"] for kind in kinds.values()),
        "violations": sum(len(kind["violations"]) for kind in kinds.values()),
    }
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _print(results: list[Result], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("kind", "what"):
        table.add_column(name)
    for name in ("cases", "faults", "violations", "seconds", "seed"):
        table.add_column(name, justify="right")
    for one in results:
        counts = (one.rounds, one.faults, len(one.violations), round(one.seconds))
        table.add_row(one.kind, one.title, *(f"{count:,}" for count in counts), str(one.seed))
    console.print(table)
    rounds, faults = sum(one.rounds for one in results), sum(one.faults for one in results)
    violations = sum(len(one.violations) for one in results)
    console.print(f"{rounds:,} rounds, {faults:,} faults, {violations:,} violations", highlight=False)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
