"""`penstock books`: the books of a run, and whether anybody changed the books since."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from foundation.errors import BooksError, ConfigError, PenstockError
from foundation.queries import fetch_dicts, read_tables
from foundation.settings import Settings
from foundation.warehouse import Warehouse, open_warehouse
from operations.accounts import chain
from operations.accounts.books import LATEST_BOOKS
from operations.accounts.chain import Link, Note
from operations.releases import releases
from operations.showing import plain_table, say

SHORT_HASH = 12
_ALL_RELEASES = 1_000_000


def read_books(warehouse: Warehouse, run_id: str | None) -> dict[str, Any]:
    """The books of a run, by default of the last that has some: its closing, sources, candidates, published marts.

    Empty where no run has closed its books. Raises ConfigError for a run that has none.
    """
    with _ledger(warehouse) as connection:
        if connection is None:
            return {}
        if run_id is None:
            last = connection.execute("select arg_max(run_id, entry_number) from ops.books").fetchone()
            run_id = last[0] if last else None
        if run_id is None:
            return {}
        closing = fetch_dicts(
            connection, "from ops.closings where run_id = $1 order by entry_number desc limit 1", [run_id]
        )
        found = {
            "run_id": run_id,
            "closing": closing[0] if closing else None,
            "sources": fetch_dicts(
                connection, f"from {LATEST_BOOKS} where run_id = $1 order by entry_number", [run_id]
            ),
            "candidates": fetch_dicts(connection, _latest("candidate_books"), [run_id]),
            "marts": fetch_dicts(connection, _latest("mart_books"), [run_id]),
            "newest": asdict(chain.newest(connection)),
        }
    if not (found["sources"] or found["candidates"] or found["marts"]):
        raise ConfigError(f"the run {run_id} has no books", where="RUN", fix="penstock status lists the runs")
    return found


def print_books(found: Mapping[str, Any], console: Console) -> None:
    """The equations of a run as tables."""
    if not found:
        say(console, "no run has closed its books yet: penstock run")
        return
    say(console, _heading(found))
    console.print(_sources_table(found["sources"]))
    if accepted := [mart for mart in found["candidates"] if mart["count_accepted"] is not None]:
        console.print(_accepted_table(accepted))
    console.print(_marts_table(found["candidates"], found["marts"]))
    newest = found["newest"]
    say(
        console,
        f"the ledger has {newest['entry_number']:,} entries, the last is {newest['entry_hash'][:SHORT_HASH]}; "
        "penstock books --verify checks them",
    )


def verify_books(settings: Settings) -> dict[str, Any]:
    """Check the chain of all entries, and that the newest of earlier times are in it, as noted outside the warehouse.

    Raises BooksError that names the first entry that does not fit.
    """
    notes, untold = _notes(settings)
    with _ledger(settings.warehouse) as connection:
        verdict = chain.verify(connection, notes)
    if verdict.flaw:
        raise BooksError(
            f"the books were tampered with: {verdict.flaw}",
            where=f"{settings.warehouse}, ops",
            fix="what comes before that entry is as it was written; compare with a backup of the warehouse",
        )
    return {**asdict(verdict), "untold": untold}


def print_verdict(found: Mapping[str, Any], console: Console) -> None:
    """What was checked."""
    compared = found["compared"]
    places = f"{compared[0]}" + (f" and {len(compared) - 1} more" if len(compared) > 1 else "") if compared else ""
    lines = [
        f"{found['newest']['entry_number']:,} entries, each as it was written",
        f"what is noted outside is in it: {places}" if compared else "nothing outside notes where the books end",
        *(f"{place} notes the books of another warehouse" for place in found["foreign"]),
        *(f"not compared: {line}" for line in found["untold"]),
    ]
    for line in lines:
        say(console, line)


def _notes(settings: Settings) -> tuple[list[Note], list[str]]:
    """The ends of the chain that the summary of the last run and every release note; what could not be asked."""
    notes, untold = [], []
    file = settings.work_dir / "last_run.json"
    try:
        if link := json.loads(file.read_text(encoding="utf-8")).get("books"):
            notes.append(Note(file.name, Link(**link)))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        untold.append(f"{file}: {error}")
    try:
        entries = releases(settings, _ALL_RELEASES)
    except PenstockError as error:
        return notes, [*untold, error.one_line()]
    for entry in entries:
        if entry["kind"] == "publish" and (link := entry["gate"].get("books")):
            notes.append(Note(f"release {entry['release_id']}", Link(**link)))
    return notes, untold


@contextmanager
def _ledger(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection | None]:
    """The warehouse with the tables of the books, also where they are of an older version; None without a ledger."""
    if not warehouse.exists():
        yield None
        return
    with open_warehouse(warehouse) as connection:
        is_there = read_tables(connection).has("ops.books")
        if is_there:
            chain.widen(connection)
        yield connection if is_there else None


def _latest(table: str) -> str:
    return f"""from ops.{table} where run_id = $1
        qualify row_number() over (partition by mart order by entry_number desc) = 1 order by entry_number"""


def _heading(found: Mapping[str, Any]) -> str:
    closing = found["closing"]
    if closing is None:
        return f"run {found['run_id']}, of a version that noted no more than this"
    balanced = "balanced" if closing["is_balanced"] else "NOT BALANCED"
    commit = f", commit {closing['git_commit'][:SHORT_HASH]}" if closing["git_commit"] else ""
    return f"run {found['run_id']}, {balanced}, as of {closing['as_of']}{commit}"


def _sources_table(books: Sequence[Mapping[str, Any]]) -> Table:
    counts = ("records_read", "records_loaded", "records_dead_lettered", "records_skipped")
    outcomes = ("count_accepted", "count_duplicate", "count_rejected")
    table = plain_table(
        ("source", "partition"),
        ("read", "= loaded", "+ dead-lettered", "+ skipped", "= accepted", "+ duplicate", "+ rejected"),
        ("checksum", ""),
    )
    for book in books:
        table.add_row(
            book["source"],
            book["partition"] or "",
            *(f"{book[name]:,}" for name in (*counts, *outcomes)),
            _alike(book["checksum_loaded"], book["checksum_judged"]),
            _balanced(book),
        )
    return table


def _accepted_table(books: Sequence[Mapping[str, Any]]) -> Table:
    counts = {"count_before": "before", "count_accepted": "+ accepted", "count_removed": "- removed"}
    if any(book.get("count_unknown") for book in books):
        counts["count_unknown"] = "+ unknown"
    counts["count_candidates"] = "= rows"
    table = plain_table(["mart"], list(counts.values()), ("checksum of keys", ""))
    for book in books:
        keys = _alike(book["checksum_accepted"], book["checksum_keys"])
        table.add_row(book["mart"], *(f"{book[name] or 0:,}" for name in counts), keys, _balanced(book))
    return table


def _marts_table(candidates: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]]) -> Table:
    by_mart = {book["mart"]: book for book in published}
    table = plain_table(["mart"], ("candidates", "= published", "release"), ("checksum of rows", ""))
    checksums = {book["mart"]: book["checksum_candidates"] for book in candidates}
    for mart in [*checksums, *(mart for mart in by_mart if mart not in checksums)]:
        book = by_mart.get(mart)
        candidate = next((each["count_candidates"] for each in candidates if each["mart"] == mart), None)
        table.add_row(
            mart,
            f"{book['count_candidates'] if book else candidate:,}",
            f"{book['count_published']:,}" if book else "",
            str(book["release_id"] or "") if book else "",
            _short(checksums.get(mart)),
            _balanced(book) if book else "",
        )
    return table


def _balanced(book: Mapping[str, Any]) -> str:
    return "balanced" if book["is_balanced"] else "NOT BALANCED"


def _alike(one: str | None, other: str | None) -> str:
    if one is None:
        return ""
    return _short(one) if one == other else f"{_short(one)}, not {_short(other)}"


def _short(checksum: str | None) -> str:
    return f"{int(checksum) % 16**8:08x}" if checksum else ""
