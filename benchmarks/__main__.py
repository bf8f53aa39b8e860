"""`make bench`: run the benches and write the results as JSON, as a table and as a plot."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.benches import Context, find_benches
from benchmarks.data import DEFAULT_FOLDER
from benchmarks.measure import Plan, Result, measure, scratch, stop_when_told
from benchmarks.peers import Peers
from benchmarks.report import RESULTS, print_results, write_results

ROWS = 5_000_000
QUICK_ROWS = 5_000


def main(
    rows: Annotated[int | None, typer.Option(min=1, help=f"Records in a file; default {ROWS:,}.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Runs of each subject that count; default 3.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this bench; may be given again.")] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Only this subject and the one compared with; may be given again.")
    ] = None,
    sizes: Annotated[str, typer.Option(help="Sizes for scaling, as 1000,2000; default 1/5, 1, 2, 4 times rows.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests at a time, for the bench api.")] = 4,
    warm_up: Annotated[bool, typer.Option(help="Whether a first round goes before that does not count.")] = True,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one run may take.")] = 1800,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, each run once: does it all work?")] = False,
    with_peers: Annotated[bool, typer.Option("--with-peers", help="Install ingestr and sling (network).")] = False,
    data_dir: Annotated[Path, typer.Option(help="For data, peers and what runs write.")] = DEFAULT_FOLDER,
    out: Annotated[Path, typer.Option(help="For latest.json and latest.svg.")] = RESULTS,
) -> None:
    """Measure Penstock beside other ways to do the same work."""
    stop_when_told()
    console = Console(width=None if sys.stdout.isatty() else 150)
    benches = find_benches()
    if unknown := set(only or ()) - set(benches):
        raise typer.BadParameter(f"no bench is named {min(unknown)}; there are {', '.join(benches)}")
    rows = rows or (QUICK_ROWS if quick else ROWS)
    data_dir, peers = data_dir.absolute(), Peers(data_dir.absolute() / "peers")

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if with_peers:
        say("installing the peers")
        try:
            peers.install()
        except RuntimeError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
    found: list[Result] = []
    with scratch(data_dir) as folder:
        plan = Plan(runs or (1 if quick else 3), warm_up and not quick, time_limit, folder, say)
        for name in only or benches:
            bench = benches[name]
            with ExitStack() as stack:
                context = Context(
                    rows=rows,
                    sizes=_sizes(sizes, rows, quick),
                    concurrency=concurrency,
                    data_dir=data_dir,
                    plan=plan,
                    peers=peers,
                    stack=stack,
                    wanted=(*subject, bench.AGAINST) if subject else (),
                )
                subjects = [one for one in bench.subjects(context) if context.wants(one.name)]
                found += measure(name, subjects, bench.AGAINST, plan)
            write_results(out, found, {name: bench.TITLE for name, bench in benches.items()})
    print_results(found, {name: bench.TITLE for name, bench in benches.items()}, console)
    say(f"written: {out / 'latest.json'} and latest.svg")
    if any(result.error for result in found):
        raise typer.Exit(1)


def _sizes(text: str, rows: int, is_quick: bool) -> list[int]:
    try:
        given = [int(size) for size in text.split(",")] if text else []
    except ValueError:
        raise typer.BadParameter(f"--sizes takes numbers with commas, not {text}") from None
    if any(size < 1 for size in given):
        raise typer.BadParameter("--sizes takes numbers from 1 on")
    return given or ([rows, 10 * rows] if is_quick else [max(rows // 5, 1), rows, 2 * rows, 4 * rows])


if __name__ == "__main__":
    typer.run(main)
