"""`penstock releases`, `diff` and `rollback`: what was published, what changed, and the way back."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from rich.console import Console
from rich.table import Table

from foundation.errors import PenstockError, StorageError
from foundation.events import Event
from foundation.settings import Settings
from operations import logs
from operations.commit import git_commit
from operations.progress import progress
from operations.publish_target import PublishTarget

if TYPE_CHECKING:
    from publishing.target import Destination

SHORT_COMMIT = 10


def releases(settings: Settings, last: int) -> list[dict[str, Any]]:
    """The last releases, newest first, as plain values. Raises PublishError."""
    from publishing.past import list_releases

    with _destination(settings) as destination:
        return [asdict(entry) for entry in list_releases(destination, last)]


def measures_shown(destination: "Destination") -> Mapping[str, Mapping[str, Any]]:
    """What the target notes of the release that it shows, by mart: counts, sums, a checksum; else nothing."""
    import psycopg

    from publishing import target
    from publishing.releases import standing

    # The release stands whether or not the target can still be asked.
    with suppress(PenstockError, psycopg.Error), target.connect(destination.dsn) as connection:
        stands = standing(connection, destination.schema)
        return stands.measures if stands else {}
    return {}


def diff(settings: Settings, older: int | None, newer: int | None, rows: int) -> dict[str, Any]:
    """How two releases differ, as plain values. Raises PublishError."""
    from publishing.past import diff as compare

    with _destination(settings) as destination:
        found = compare(destination, older, newer, rows=rows)
    return {
        "from": found[0],
        "to": found[1],
        "marts": {mart: asdict(delta) for mart, delta in found[2].items()},
        "rows": [asdict(row) for row in found[3]],
    }


def rollback(root: Path, settings: Settings, release_id: int | None, console: Console) -> dict[str, Any]:
    """Show readers an earlier release again; the release that this is, as plain values. Raises PenstockError."""
    from publishing.exports import bring_back_exports
    from publishing.releases import Origin
    from publishing.rollback import rollback as roll_back

    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    try:
        logs.set_up_logs(settings.work_dir / "logs", settings.log_level, settings.secrets())
    except OSError as error:
        raise StorageError(f"logs cannot be written: {error.strerror}", where=str(settings.work_dir)) from error
    structlog.contextvars.bind_contextvars(run_id=run_id)
    log = logs.listener()
    with _destination(settings) as destination, progress(console, settings.progress_update_ms) as show:

        def emit(event: Event) -> None:
            show(event)
            log(event)

        release = roll_back(destination, release_id, Origin(run_id, git_commit(root)), emit)
    exports = bring_back_exports(settings.outputs, settings.output_dir, release.shows_release)
    is_missing = not exports and any(output.export for output in settings.outputs.values())
    return asdict(release) | {"exports": [str(file) for file in exports], "are_exports_missing": is_missing}


def print_releases(found: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line a release, newest first, with what it changed."""
    if not found:
        console.print("nothing was published yet: penstock run")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("release", "published (UTC)", "run", "commit", "gate", "mart"):
        table.add_column(column, no_wrap=True)
    for column in ("added", "changed", "removed", "rows"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for entry in found:
        told = [
            str(entry["release_id"]),
            f"{entry['published_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            entry["run_id"],
            (entry["git_commit"] or "")[:SHORT_COMMIT],
            _gate(entry["gate"]),
        ]
        remark = f"shows {entry['shows_release']} again" if entry["kind"] == "rollback" else ""
        remark = remark or ("" if entry["is_retained"] else "not retained")
        for mart, delta in entry["marts"].items():
            table.add_row(*told, mart, *_counts(delta), remark)
            told, remark = [""] * len(told), ""
    console.print(table)


def print_diff(found: Mapping[str, Any], console: Console) -> None:
    """One line a mart, then one for each row that was asked for."""
    console.print(f"release {found['from']} -> {found['to']}", highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("mart", no_wrap=True)
    for column in ("added", "changed", "removed", "rows"):
        table.add_column(column, justify="right", no_wrap=True)
    for mart, delta in found["marts"].items():
        table.add_row(mart, *_counts(delta))
    console.print(table)
    for row in found["rows"]:
        key = ", ".join(f"{name} {value}" for name, value in row["key"].items())
        values = "; ".join(
            f"{name}: {then} -> {now}" for name, (then, now) in row["columns"].items() if row["action"] == "changed"
        )
        line = f"{row['mart']} {row['action']}: {key}" + (f": {values}" if values else "")
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_rollback(release: Mapping[str, Any], console: Console) -> None:
    """What a rollback did."""
    number = release["release_id"]
    if not release["is_new"]:
        console.print(f"release {number} already shows that; nothing was changed", highlight=False)
        return
    changed = ", ".join(
        f"{mart} {sum(delta[name] for name in ('rows_added', 'rows_changed', 'rows_removed')):,} rows"
        for mart, delta in release["marts"].items()
    )
    console.print(f"release {number} is shown now: {changed}", highlight=False, soft_wrap=True)
    for file in release["exports"]:
        console.print(f"put back: {file}", markup=False, highlight=False, soft_wrap=True)
    if release["are_exports_missing"]:
        console.print("the exported files of that release are not here: they stay as they are", soft_wrap=True)


def _counts(delta: Mapping[str, int]) -> list[str]:
    return [f"{delta[f'rows_{name}']:,}" for name in ("added", "changed", "removed", "total")]


def _gate(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    warnings = counts.get("warning", 0)
    return "passed" + (f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else "")


@contextmanager
def _destination(settings: Settings) -> Iterator["Destination"]:
    with ExitStack() as stack:
        target = PublishTarget(settings, stack)
        target.start()
        yield target.destination()
