"""The first page of the report site: did it run, is it right, how fresh is it, what was rejected."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from operations.site.quality import tally
from operations.site.writing import as_time, exit_code_meanings, write_page

Row = Mapping[str, Any]

BOOK_COUNTS = (
    "records_read",
    "records_loaded",
    "records_dead_lettered",
    "records_skipped",
    "count_accepted",
    "count_duplicate",
    "count_rejected",
)
# A run that closed no books still says in its summary what it read.
_SUMMARY_COUNTS = {f"records_{name}": name for name in ("read", "loaded", "dead_lettered", "skipped")}
_LAST_RUNS = 20
_MOST_ERRORS = 50
_TOP_REASONS = 10
_STATUS_VERDICTS = {"succeeded": "pass", "partial": "warn", "running": "none"}


def render_index(
    runs: Sequence[Row],
    books: Sequence[Row],
    mart_books: Sequence[Row],
    dead_letter_counts: Sequence[Row],
    rejected_counts: Sequence[Row],
    out: Path,
    *,
    generated_at: datetime,
    checks: Sequence[Row] = (),
    freshness: Sequence[Row] = (),
) -> Path:
    """The page at `out`. Every sequence may be empty, as on a fresh clone.

    runs, books, mart_books, checks: rows of ops.runs, ops.books, ops.mart_books and of the last ops.gate_results;
    dead_letter_counts: source, reason, records, records_last_run, last_at, and message and place of the first;
    rejected_counts: model, rule, records; freshness: source, loaded_at (of its newest row).
    """
    runs = sorted(runs, key=lambda run: str(run.get("started_at") or ""), reverse=True)
    shown = [_shown_run(run, books, mart_books) for run in runs[:_LAST_RUNS]]
    last = shown[0] if shown else None
    release = next((run for run in shown if run["release_id"]), None)
    values = {
        "generated_at": generated_at,
        "last": last,
        "release": release,
        "runs": shown,
        "tally": tally(checks),
        "judged_run_id": next((check.get("run_id") for check in checks), None),
        "books": _last_books(runs, books, freshness, generated_at),
        "unbooked": _last_unbooked(runs, books),
        "marts": _last_mart_books(runs, mart_books),
        "newest_at": max(filter(None, (as_time(row.get("loaded_at")) for row in freshness)), default=None),
        "rejected": sorted(rejected_counts, key=lambda row: -(row.get("records") or 0))[:_TOP_REASONS],
        "dead_letters": [
            {"message": "", "place": "", **row}
            for row in sorted(dead_letter_counts, key=lambda row: -(row.get("records") or 0))[:_TOP_REASONS]
        ],
        "dead_letter_total": sum(row.get("records") or 0 for row in dead_letter_counts),
    }
    return write_page(out, "index.html.j2", values)


def _shown_run(run: Row, books: Iterable[Row], mart_books: Iterable[Row]) -> dict[str, Any]:
    own_books = [book for book in books if book.get("run_id") == run["run_id"]]
    own_marts = [book for book in mart_books if book.get("run_id") == run["run_id"]]
    started_at, finished_at = as_time(run.get("started_at")), as_time(run.get("finished_at"))
    exit_code = run.get("exit_code")
    summary = _summary(run)
    counted = own_books or _read_by_source(summary)
    errors = summary.get("errors") or [run["error"]] * bool(run.get("error"))
    return {
        "run_id": run["run_id"],
        "status": run.get("status") or "unknown",
        "verdict": _STATUS_VERDICTS.get(run.get("status") or "", "fail"),
        "started_at": started_at,
        "finished_at": finished_at,
        "duration": finished_at - started_at if started_at and finished_at else None,
        "exit_code": exit_code,
        "meaning": exit_code_meanings().get(exit_code, "") if isinstance(exit_code, int) else "",
        "errors": errors[:_MOST_ERRORS],
        "more_errors": max(0, len(errors) - _MOST_ERRORS),
        "release_id": run.get("release_id"),
        "is_balanced": all(book.get("is_balanced") for book in [*own_books, *own_marts]),
        "is_booked": bool(own_books or own_marts),
        **{name: _total(counted, name) for name in BOOK_COUNTS},
        "count_published": _total(own_marts, "count_published"),
    }


def _summary(run: Row) -> dict[str, Any]:
    try:
        summary = json.loads(run.get("summary") or "{}")
    except ValueError:
        return {}
    return summary if isinstance(summary, dict) else {}


def _read_by_source(summary: Row) -> list[dict[str, Any]]:
    return [
        {
            "source": source["source"],
            "is_failed": bool(source.get("errors")),
            **{name: source.get(key) for name, key in _SUMMARY_COUNTS.items()},
        }
        for source in summary.get("sources") or []
    ]


def _last_unbooked(runs: Iterable[Row], books: Iterable[Row]) -> dict[str, Any]:
    """What the newest run that read sources read of each, where it closed no books."""
    booked = {book.get("run_id") for book in books}
    for run in runs:
        if run["run_id"] in booked:
            break
        if rows := _read_by_source(_summary(run)):
            return {"run_id": run["run_id"], "rows": rows}
    return {"run_id": None, "rows": []}


def _total(rows: Iterable[Row], name: str) -> int | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) if values else None


def _last_books(
    runs: Iterable[Row], books: Sequence[Row], freshness: Iterable[Row], generated_at: datetime
) -> dict[str, Any]:
    newest = {row["source"]: as_time(row.get("loaded_at")) for row in freshness}
    run_id, rows = _of_last_run(runs, books)
    shown = [
        {
            **{name: row.get(name) for name in (*BOOK_COUNTS, "source", "is_balanced")},
            "loaded_at": newest.get(row.get("source")),
            "age": _age(newest.get(row.get("source")), generated_at),
        }
        for row in sorted(rows, key=lambda row: str(row.get("source")))
    ]
    return {"run_id": run_id, "rows": shown, "totals": {name: _total(rows, name) for name in BOOK_COUNTS}}


def _last_mart_books(runs: Iterable[Row], mart_books: Sequence[Row]) -> dict[str, Any]:
    run_id, rows = _of_last_run(runs, mart_books)
    return {"run_id": run_id, "rows": sorted(rows, key=lambda row: str(row.get("mart")))}


def _of_last_run(runs: Iterable[Row], rows: Sequence[Row]) -> tuple[str | None, list[Row]]:
    """The newest run that has such rows, and its rows: a run that failed early has none."""
    for run in runs:
        own = [row for row in rows if row.get("run_id") == run["run_id"]]
        if own:
            return str(run["run_id"]), own
    return None, []


def _age(at: datetime | None, generated_at: datetime) -> Any:
    return generated_at - at if at else None
