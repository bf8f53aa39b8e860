"""`penstock status`: the last runs, or the partitions of the sources, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_runs(runs: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line a run, newest first, with what went wrong below it."""
    if not runs:
        console.print("no run yet: make run")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("run", "command", "started (UTC)", "status", "exit"):
        table.add_column(column, no_wrap=True)
    for column in ("seconds", "read", "dead-lettered", "rejected", "release"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        summary = run["summary"]
        totals = summary.get("totals", {})
        table.add_row(
            run["run_id"],
            run["command"],
            f"{run['started_at']:%Y-%m-%d %H:%M:%S}",
            run["status"] + (f", attempt {run['attempts']}" if run["attempts"] > 1 else ""),
            "" if run["exit_code"] is None else str(run["exit_code"]),
            f"{summary['duration_seconds']:.1f}" if summary else "",
            *(f"{totals[name]:,}" if totals else "" for name in ("read", "dead_lettered", "rejected")),
            run["release_id"] or "",
        )
    console.print(table)
    for run in runs:
        if run["error"]:
            console.print(f"{run['run_id']}: {run['error']}", markup=False, highlight=False, soft_wrap=True)


def print_partitions(partitions: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line a partition, by source, as the last run that had it left it."""
    if not partitions:
        console.print("nothing was read yet: make ingest")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("source", "partition", "state"):
        table.add_column(column)
    for column in ("seconds", "read", "loaded", "dead-lettered", "skipped"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for each in partitions:
        counts = each["counts"]
        table.add_row(
            each["source"],
            each["partition"] or "(whole)",
            each["state"],
            "" if each["seconds"] is None else f"{each['seconds']:.1f}",
            *(f"{counts.get(name, 0):,}" for name in ("read", "loaded", "dead_lettered", "skipped")),
            each["run_id"],
        )
    console.print(table)
    for each in partitions:
        if each["error"]:
            name = " ".join(filter(None, (each["source"], each["partition"])))
            error = each["error"].removeprefix(f"{each['source']}: ")
            console.print(f"{name}: {error}", markup=False, highlight=False, soft_wrap=True)
