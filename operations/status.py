"""`penstock status`: the last runs as a table."""

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
            run["status"],
            "" if run["exit_code"] is None else str(run["exit_code"]),
            f"{summary['duration_seconds']:.1f}" if summary else "",
            *(f"{totals[name]:,}" if totals else "" for name in ("read", "dead_lettered", "rejected")),
            run["release_id"] or "",
        )
    console.print(table)
    for run in runs:
        if run["error"]:
            console.print(f"{run['run_id']}: {run['error']}", markup=False, highlight=False, soft_wrap=True)
