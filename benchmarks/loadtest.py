"""`make loadtest`: Penstock against an API that is slow and fails at times, at every batch size and concurrency.

TOTAL_RECORDS and FAILURE_RATE in the environment, or the options of the same name, say how much and how bad.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import api_server
from benchmarks.data import DEFAULT_FOLDER, Dataset, make_dataset
from benchmarks.measure import Plan, Subject, SubjectError, run_subject, scratch, stop_when_told
from benchmarks.penstock import check_raw, count_written, ingest_seconds, make_project
from benchmarks.report import RESULTS, machine, render, versions, write_whole

# A refused request is sent again after this, doubled each time, so that a cell measures work and not patience.
FIRST_WAIT_SECONDS = 0.05
TRIES = 6


@dataclass(frozen=True)
class Cell:
    """What one batch size and concurrency came to, the medians over its runs.

    records_per_s and writes_per_s are over ingest_s, the stage by Penstock's own ledger; wall_s is the whole command.
    A batch's latency goes from its first request to the end of its answer, both at the server, so that refused
    requests and the waits after them are in it. error_rate is the share of requests answered by 503,
    dead_letter_rate that of records from which nothing could be read.
    """

    batch_size: int
    concurrency: int
    runs: int = 0
    wall_s: float | None = None
    ingest_s: float | None = None
    records_per_s: float | None = None
    writes_per_s: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    peak_mb: float | None = None
    requests: int | None = None
    refused: int | None = None
    error_rate: float | None = None
    dead_letter_rate: float | None = None
    error: str = ""


@dataclass(frozen=True)
class _Run:
    wall_s: float
    ingest_s: float
    peak_mb: float
    written: int
    told: dict[str, Any]


def main(
    total_records: Annotated[int, typer.Option(envvar="TOTAL_RECORDS", min=1, help="Records served.")] = 20_000,
    failure_rate: Annotated[
        float,
        typer.Option(
            envvar="FAILURE_RATE", min=0, max=0.9, help="Share of requests refused, and share of records that are bad."
        ),
    ] = 0.05,
    latency_ms: Annotated[
        float, typer.Option(envvar="LATENCY_MS", min=0, max=60_000, help="How long the API takes for an answer.")
    ] = 20,
    batch_sizes: Annotated[str, typer.Option(help="Values of BATCH_SIZE, with commas.")] = "100,500,1000,5000",
    concurrencies: Annotated[str, typer.Option(help="Values of CONCURRENCY, with commas.")] = "1,2,4,8,16",
    runs: Annotated[int, typer.Option(min=1, help="Runs of each cell.")] = 1,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one run may take.")] = 600,
    data_dir: Annotated[Path, typer.Option(help="For data and what runs write.")] = DEFAULT_FOLDER,
    out: Annotated[Path, typer.Option(help="For loadtest.json and loadtest.svg.")] = RESULTS,
) -> None:
    """Sweep BATCH_SIZE and CONCURRENCY over a local API with refused requests and bad records."""
    stop_when_told()
    console = Console(width=None if sys.stdout.isatty() else 150)

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    sizes, widths = _numbers(batch_sizes, "--batch-sizes"), _numbers(concurrencies, "--concurrencies")
    cells = []
    with scratch(data_dir.absolute()) as folder:
        plan = Plan(runs, False, time_limit, folder, say)
        for size in sizes:
            # Half of the bad records cannot be read, the other half break a rule and are for the models to find.
            share = failure_rate / 2
            dataset = make_dataset(
                data_dir.absolute(), "pages", total_records, malformed=share, invalid=share, page_size=size
            )
            for width in widths:
                cells.append(_cell(dataset, size, width, failure_rate, latency_ms / 1000, plan))
                say(_line(cells[-1]))
    report = {
        "total_records": total_records,
        "failure_rate": failure_rate,
        "latency_ms": latency_ms,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": machine(),
        "versions": versions(),
        "cells": [asdict(cell) for cell in cells],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "loadtest.json", json.dumps(report, indent=2) + "\n")
    write_whole(out / "loadtest.svg", _plot(report, cells, sizes, widths))
    console.print(_table(cells))
    say(f"{_summary(report)}\nwritten: {out / 'loadtest.json'} and loadtest.svg")
    if any(cell.error for cell in cells):
        raise typer.Exit(1)


def _cell(dataset: Dataset, size: int, width: int, failure_rate: float, latency: float, plan: Plan) -> Cell:
    taken = []
    try:
        for _ in range(plan.runs):
            taken.append(_run(dataset, size, width, failure_rate, latency, plan))
    except SubjectError as error:
        return Cell(size, width, error=str(error))
    ingest = statistics.median(one.ingest_s for one in taken)
    latencies = sorted(value for one in taken for value in one.told["latencies_ms"])
    requests, refused = (sum(one.told[what] for one in taken) for what in ("requests", "refused"))
    return Cell(
        size,
        width,
        len(taken),
        wall_s=round(statistics.median(one.wall_s for one in taken), 3),
        ingest_s=round(ingest, 3),
        records_per_s=round(dataset.rows / ingest, 1),
        writes_per_s=round(statistics.median(one.written for one in taken) / ingest, 1),
        latency_p50_ms=round(_percentile(latencies, 50), 2),
        latency_p95_ms=round(_percentile(latencies, 95), 2),
        peak_mb=round(max(one.peak_mb for one in taken), 1),
        requests=requests,
        refused=refused,
        error_rate=round(refused / requests, 4),
        dead_letter_rate=round(dataset.dead_letters / dataset.rows, 4),
    )


def _run(dataset: Dataset, size: int, width: int, failure_rate: float, latency: float, plan: Plan) -> _Run:
    with ExitStack() as stack:
        address = stack.enter_context(api_server.serve(dataset.path, size, failure_rate=failure_rate, latency=latency))
        seen: dict[str, Any] = {}
        source = {
            "type": "api",
            "url": f"{address}/records",
            "records_path": "data",
            "pagination": {"type": "page", "size_param": "per_page", "total_path": "total"},
            "retry": {"attempts": TRIES, "first_wait_seconds": FIRST_WAIT_SECONDS},
        }
        settings = {"BATCH_SIZE": str(size), "CONCURRENCY": str(width)}

        def check(folder: Path, _output: str) -> float | None:
            check_raw(folder, dataset)
            seen["written"] = count_written(folder)
            return ingest_seconds(folder)

        subject = Subject("penstock", dataset.rows, lambda folder: make_project(folder, source, settings), check)
        measurement = run_subject(subject, plan)
        told = httpx.get(f"{address}/stats").json()
    if measurement.own_s is None:
        raise SubjectError("the ledger does not tell how long ingest took")
    return _Run(measurement.wall_s, measurement.own_s, measurement.peak_mb, seen["written"], told)


def _percentile(values: Sequence[float], percent: int) -> float:
    """The nearest rank: a latency that was really there."""
    return values[max(-(-len(values) * percent // 100) - 1, 0)] if values else 0.0


def _numbers(text: str, option: str) -> list[int]:
    try:
        return sorted({_positive(part) for part in text.split(",")})
    except ValueError:
        raise typer.BadParameter(f"{text} is not whole numbers from 1 on, with commas", param_hint=option) from None


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _line(cell: Cell) -> str:
    head = f"BATCH_SIZE={cell.batch_size} CONCURRENCY={cell.concurrency}: "
    if cell.error:
        return f"{head}failed: {cell.error}"
    return f"{head}{cell.records_per_s:,.0f} records/s, {cell.refused} of {cell.requests} requests refused"


def _table(cells: Sequence[Cell]) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("batch", "concurrency", "wall s", "ingest s", "records/s", "writes/s", "p50 ms", "p95 ms", "peak MB")
    for heading in (*headings, "503s", "dead letters"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells:
        if cell.error:
            table.add_row(f"{cell.batch_size:,}", str(cell.concurrency), "FAILED")
            continue
        table.add_row(
            f"{cell.batch_size:,}",
            str(cell.concurrency),
            *(f"{value:,.2f}" for value in (cell.wall_s, cell.ingest_s)),
            *(f"{value:,.0f}" for value in (cell.records_per_s, cell.writes_per_s)),
            *(f"{value:,.1f}" for value in (cell.latency_p50_ms, cell.latency_p95_ms)),
            f"{cell.peak_mb:,.0f}",
            f"{cell.error_rate:.1%}",
            f"{cell.dead_letter_rate:.1%}",
        )
    return table


def _summary(report: dict[str, Any]) -> str:
    rate = report["failure_rate"]
    return (
        f"{report['total_records']:,} records, {report['latency_ms']:g} ms an answer, {rate:.1%} of the requests "
        f"answered by 503, {rate / 2:.1%} of the records unreadable, {rate / 2:.1%} against a rule"
    )


@dataclass(frozen=True)
class _Map:
    title: str
    unit: str
    is_more_better: bool
    value: Callable[[Cell], float | None]


_MAPS = (
    _Map("Records per second", "more is better", True, lambda cell: cell.records_per_s),
    _Map("Latency of a batch, p95", "ms, less is better", False, lambda cell: cell.latency_p95_ms),
    _Map("Peak memory", "MB, less is better", False, lambda cell: cell.peak_mb),
)


def _plot(report: dict[str, Any], cells: Sequence[Cell], sizes: Sequence[int], widths: Sequence[int]) -> str:
    found = {(cell.batch_size, cell.concurrency): cell for cell in cells}
    maps = []
    for one in _MAPS:
        values = [value for cell in cells if (value := one.value(cell)) is not None]
        low, high = min(values, default=0.0), max(values, default=0.0)
        rows = []
        for size in sizes:
            row = []
            for width in widths:
                value = one.value(found[size, width])
                # The best has 1, one that is half as good a half: what is nearly alike looks alike.
                share = 0.0 if not value else value / high if one.is_more_better else low / value
                text = "failed" if value is None else f"{value:,.0f}"
                row.append({"text": text, "share": share})
            rows.append({"label": f"{size:,}", "cells": row})
        maps.append({"title": one.title, "unit": one.unit, "rows": rows})
    held = report["machine"]
    subtitle = f"{held['processors']} processors, {held['memory_gb']:g} GB, {report['date'][:10]}"
    return render(
        "heatmaps.svg.j2",
        maps=maps,
        columns=[str(width) for width in widths],
        about=_summary(report),
        subtitle=subtitle,
    )


if __name__ == "__main__":
    typer.run(main)
