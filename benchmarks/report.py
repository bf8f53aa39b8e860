"""What was measured as JSON, as a table and as a plot."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]
from jinja2 import Environment, FileSystemLoader
from rich.console import Console
from rich.table import Table

from benchmarks.measure import ROOT, Result

RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = ("penstock", "duckdb", "dlt", "pandas", "httpx", "pyarrow")
# A bar ends here, so many times as long as that of the subject compared with; what is slower is cut off.
_LONGEST = 4.0


def write_results(folder: Path, results: Sequence[Result], titles: Mapping[str, str]) -> None:
    """Write latest.json and latest.svg. Benches that were not run now keep what latest.json says of them."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "latest.json"
    run_now = {result.bench for result in results}
    kept = [entry for entry in _read(file) if entry["bench"] not in run_now]
    origin = {"date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"), "machine": machine(), "versions": versions()}
    entries = sorted(
        [*kept, *({**asdict(result), **origin} for result in results)],
        key=lambda entry: [*titles, entry["bench"]].index(entry["bench"]),
    )
    write_whole(file, json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
    panels = [
        {"title": titles.get(bench, bench), "bars": _bars(list(group))}
        for bench, group in groupby(entries, key=lambda entry: str(entry["bench"]))
    ]
    write_whole(folder / "latest.svg", render("bars.svg.j2", panels=panels, subtitle=_subtitle(entries)))


def print_results(results: Sequence[Result], titles: Mapping[str, str], console: Console) -> None:
    """Show a table of each bench to a person."""
    for bench, group in groupby(results, key=lambda result: result.bench):
        found = list(group)
        table = Table(title=f"{titles[bench]} ({bench})", title_justify="left", title_style="bold", box=None)
        table.add_column("subject", no_wrap=True)
        columns = ("rows", "runs", "median s", "own s", "cpu s", "rows/s", "peak MB", "time ratio", "ratio")
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column(f"beside {found[0].against}", overflow="fold")
        for one in found:
            figures = [_figure(one.median_s, 2), _figure(one.own_s, 2), _figure(one.cpu_s, 2)]
            figures += [_figure(one.rows_per_s, 0), _figure(one.peak_mb, 0)]
            figures += [_figure(one.time_ratio, 2), _figure(one.ratio, 2)]
            note = f"FAILED: {one.error}" if one.error else one.note
            table.add_row(one.subject, f"{one.rows:,}", str(one.runs), *figures, note)
        console.print(table)
        console.print()


def render(template: str, **values: Any) -> str:
    """An SVG from a template beside this module."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return (
        Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        .get_template(template)
        .render(values)
    )


def write_whole(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def machine() -> dict[str, Any]:
    """What the figures hang on besides the code."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processors": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of what is measured, where it is installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict) and "bench" in entry]


def _bars(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shown = [min(entry["ratio"] or 0.0, _LONGEST) for entry in entries]
    longest = max([*shown, 1.0])
    return [
        {
            "label": entry["subject"],
            "role": _role(entry),
            "share": length / longest,
            "is_cut": (entry["ratio"] or 0.0) > _LONGEST,
            "ratio": f"{_figure(entry['ratio'], 2)}×" if entry["ratio"] else "",
            "seconds": f"{_figure(entry['median_s'], 2)} s" if entry["median_s"] else "failed",
            "rate": _figure(entry["rows_per_s"], 0),
            "memory": f"{_figure(entry['peak_mb'], 0)} MB" if entry["peak_mb"] else "",
            "note": f"{entry['rows']:,} rows" + (f" · {entry['note']}" if entry["note"] else ""),
        }
        for entry, length in zip(entries, shown, strict=True)
    ]


def _role(entry: Mapping[str, Any]) -> str:
    if str(entry["subject"]).startswith("penstock"):
        return "ours"
    return "base" if entry["subject"] == entry["against"] else "other"


def _subtitle(entries: Sequence[Mapping[str, Any]]) -> str:
    newest = max(entries, key=lambda entry: str(entry["date"]))
    held, found = newest["machine"], newest["versions"]
    return (
        f"{held['processors']} processors, {held['memory_gb']:g} GB, Python {held['python']}, "
        f"DuckDB {found.get('duckdb', '?')}, {newest['date'][:10]}"
    )


def _figure(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:,.{digits if abs(value) < 100 else min(digits, 1)}f}"
