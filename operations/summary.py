"""The summary of a run: one dictionary for machines, the same as tables for people."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from foundation.failpoints import failpoint
from operations import showing
from operations.accounts.books import MartBook, SourceBook
from operations.domains import sum_up
from operations.letters.examples import told
from operations.result import Failure
from operations.showing import plain_table
from operations.thresholds import Share

_STATES = {True: "balanced", False: "NOT BALANCED", None: ""}


@dataclass
class RunRecord:
    """What a run has come to so far; every stage adds its part."""

    run_id: str
    command: str
    started_at: datetime
    as_of: date
    attempt: int = 1
    attempt_started_at: datetime | None = None  # of one that goes on; the first starts with the run
    finished_at: datetime | None = None
    status: str = "running"
    exit_code: int = 0
    errors: list[str] = field(default_factory=list)
    source_errors: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    books: list[SourceBook] = field(default_factory=list)
    mart_books: list[MartBook] = field(default_factory=list)
    books_link: Mapping[str, Any] | None = None  # the newest entry of the books: its number and hash
    changes: dict[str, dict[str, int]] = field(default_factory=dict)
    gates: dict[str, dict[str, int]] = field(default_factory=dict)
    shares: list[Share] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    result: dict[str, Any] | None = None
    release_id: str | None = None
    is_new_release: bool | None = None
    reports: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    domains: Mapping[str, str] = field(default_factory=dict)  # of every source and mart
    seconds: Mapping[str, float] = field(default_factory=dict)  # by source, suite and mart
    build_seconds: Mapping[str, float] = field(default_factory=dict)  # by domain

    @property
    def duration_seconds(self) -> float:
        """From the start of this attempt to its end."""
        assert self.finished_at is not None
        return (self.finished_at - (self.attempt_started_at or self.started_at)).total_seconds()


def as_dictionary(record: RunRecord) -> dict[str, Any]:
    """The summary as last_run.json holds it. Counts are records, durations seconds, times ISO 8601 in UTC."""
    # A run that ended before its books were closed tells what it read.
    books = record.books or [_unjudged(source, counts) for source, counts in sorted(record.counts.items())]
    totals = _totals(books)
    judged = totals["valid"] + totals["invalid"]
    sources = [_source(record, book) for book in books]
    return {
        "run_id": record.run_id,
        "command": record.command,
        "status": record.status,
        "exit_code": record.exit_code,
        "attempts": record.attempt,
        "started_at": record.started_at.isoformat(),
        "attempt_started_at": (record.attempt_started_at or record.started_at).isoformat(),
        "finished_at": record.finished_at.isoformat() if record.finished_at else None,
        "duration_seconds": round(record.duration_seconds, 3),
        "as_of": record.as_of.isoformat(),
        "totals": totals,
        "success_rate_percent": round(100 * totals["valid"] / judged, 3) if judged else None,
        "records_per_second": round(totals["read"] / max(record.duration_seconds, 0.001), 1),
        "is_balanced": _is_balanced(record),
        "books": record.books_link,
        "sources": sources,
        "domains": sum_up(record.domains, sources, record.seconds, record.build_seconds),
        "result": record.result,
        "dead_letters": record.dead_letters,
        "marts": [
            {
                "mart": book.mart,
                "candidates": book.count_candidates,
                "published": book.count_published,
                **record.changes.get(book.mart, {}),
                "is_balanced": book.is_balanced,
            }
            for book in record.mart_books
        ],
        "gates": record.gates,
        "thresholds": [share.as_dictionary() for share in record.shares],
        "release_id": record.release_id,
        "is_new_release": record.is_new_release,
        "errors": record.errors + [error for errors in record.source_errors.values() for error in errors],
        "notes": record.notes,
        "reports": record.reports,
    }


def write_json(summary: Mapping[str, Any], file: Path) -> None:
    """Write the summary to `file`, whole or not at all."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
    failpoint("summary.unfinished")
    temporary.replace(file)


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Show the summary to a person."""
    say = functools.partial(showing.say, console)
    if summary["sources"]:
        console.print(_sources_table(summary))
    for line in told(summary["dead_letters"], summary["run_id"]):
        say(line)
    if len(summary["domains"]) > 1:
        console.print(_domains_table(summary["domains"]))
    if summary["marts"]:
        console.print(_marts_table(summary["marts"]))
    for note in summary["notes"]:
        say(f"note: {note}")
    if summary["sources"] and not summary["totals"]["read"] - summary["totals"]["skipped"]:
        say("nothing new was read")
    if summary["release_id"] is not None:
        change = "published" if summary["is_new_release"] else "nothing changed in Postgres; it still shows"
        say(f"{change} release {summary['release_id']}")
    if summary["is_balanced"] is not None:
        entry = (
            "" if summary["books"] is None else " (entry {entry_number}, {entry_hash:.12})".format(**summary["books"])
        )
        say(("the books balance" if summary["is_balanced"] else "THE BOOKS DO NOT BALANCE") + entry)
    for name, place in summary["reports"].items():
        say(f"{name}: {place}")
    say(
        f"{summary['command']} {summary['status']} in {summary['duration_seconds']:.1f} s, "
        f"{summary['totals']['read']:,} records read, {summary['records_per_second']:,.0f}/s, run {summary['run_id']}"
    )


def _is_balanced(record: RunRecord) -> bool | None:
    """Whether every book that was closed balances; None when none was."""
    books: list[SourceBook | MartBook] = [*record.books, *record.mart_books]
    return all(book.is_balanced for book in books) if record.books else None


def _unjudged(source: str, counts: Mapping[str, int]) -> SourceBook:
    return SourceBook(
        source, counts.get("read", 0), counts.get("loaded", 0), counts.get("dead_lettered", 0), counts.get("skipped", 0)
    )


def _totals(books: Sequence[SourceBook]) -> dict[str, int]:
    return {
        "read": sum(book.records_read for book in books),
        "loaded": sum(book.records_loaded for book in books),
        "dead_lettered": sum(book.records_dead_lettered for book in books),
        "skipped": sum(book.records_skipped for book in books),
        "valid": sum(book.count_accepted + book.count_duplicate for book in books),
        "invalid": sum(book.records_dead_lettered + book.count_rejected for book in books),
        "duplicates": sum(book.count_duplicate for book in books),
        "rejected": sum(book.count_rejected for book in books),
        "published": sum(book.count_accepted for book in books),
    }


def _source(record: RunRecord, book: SourceBook) -> dict[str, Any]:
    return {
        "source": book.source,
        "read": book.records_read,
        "loaded": book.records_loaded,
        "dead_lettered": book.records_dead_lettered,
        "skipped": book.records_skipped,
        # Nobody has judged the records of a run that stopped before its books.
        "duplicates": book.count_duplicate if record.books else None,
        "rejected": book.count_rejected if record.books else None,
        "published": (book.count_accepted if record.release_id is not None else 0) if record.books else None,
        "is_balanced": book.is_balanced if record.books else None,
        "errors": record.source_errors.get(book.source, []),
    }


def _sources_table(summary: Mapping[str, Any]) -> Table:
    columns = ("read", "loaded", "dead_lettered", "skipped", "duplicates", "rejected", "published")
    table = plain_table(["source"], [column.replace("_", "-") for column in columns], [""])
    for source in summary["sources"]:
        state = "failed" if source["errors"] else _STATES[source["is_balanced"]]
        table.add_row(source["source"], *(_figure(source[column]) for column in columns), state)
    totals = {column: [source[column] for source in summary["sources"]] for column in columns}
    table.add_row("total", *(_figure(None if None in found else sum(found)) for found in totals.values()), "")
    return table


def _domains_table(domains: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table(["domain"], ("sources", "read", "rejected", "published", "seconds", "to build"), [""])
    for domain in domains:
        counts = (_figure(domain[name]) for name in ("sources", "read", "rejected", "published"))
        times = (f"{domain[name]:,.1f}" for name in ("seconds", "build_seconds"))
        table.add_row(domain["domain"], *counts, *times, _STATES[domain["is_balanced"]])
    return table


def _figure(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _marts_table(marts: Sequence[Mapping[str, Any]]) -> Table:
    names = ("candidates", "published", "added", "changed", "removed")
    table = plain_table(["mart"], names)
    for mart in marts:
        counts = (mart.get(name, 0) for name in names)
        table.add_row(mart["mart"], *(f"{count:,}" for count in counts))
    return table
