"""`penstock status`: the last runs, or the partitions of the sources, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column

from operations.showing import plain_table, say


def print_runs(runs: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line a run, newest first, with what went wrong below it."""
    if not runs:
        say(console, "no run yet: penstock run")
        return
    table = plain_table(
        ("run", "command", "started (UTC)", "status", "exit"),
        ("seconds", "read", "dead-lettered", "rejected", "release"),
    )
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
            say(console, f"{run['run_id']}: {run['error']}")


def print_partitions(partitions: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line a partition, by source, as the last run that had it left it."""
    if not partitions:
        say(console, "nothing was read yet: penstock ingest")
        return
    table = plain_table(
        [Column(head) for head in ("source", "partition", "state")],
        ("seconds", "read", "loaded", "dead-lettered", "skipped"),
        ["run"],
    )
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
            say(console, f"{name}: {error}")
