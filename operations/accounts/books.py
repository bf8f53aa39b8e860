"""The books of a run: what was read against what became of it, counted and summed up from the data itself.

read = loaded + dead-lettered + skipped; loaded = accepted + duplicate + rejected; accepted - removed = published. What
was read is the reader's claim; all else are rows. Beside each count stands a checksum of which records they are: a sum
of hashes, which does not depend on their order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any

import duckdb

from foundation.failpoints import failpoint
from foundation.warehouse import Warehouse, open_warehouse, quote_identifier
from operations.accounts import chain, tallies
from operations.accounts.chain import Link
from operations.accounts.equations import CandidateBook, MartBook, SourceBook, added_up, checks
from operations.accounts.tallies import Counted, MartKey, MartTally, Tally

__all__ = [
    "CandidateBook",
    "Closing",
    "MartBook",
    "Provenance",
    "SourceBook",
    "checks",
    "close_books",
    "close_mart_books",
    "count_landed",
]

# A run that is closed again enters its books again.
LATEST_BOOKS = """(
    select * from ops.books
    qualify row_number() over (partition by run_id, source, partition order by entry_number desc) = 1
)"""

LATEST_CLOSINGS = """(
    select * from ops.closings qualify row_number() over (partition by run_id order by entry_number desc) = 1
)"""
# What stood in a mart when books last balanced, those of this run left out.
_BEFORE = f"""
    select count_candidates - coalesce(count_unknown, 0) from ops.candidate_books
    where mart = $mart and count_accepted is not null and run_id <> $run_id
        and run_id in (select run_id from {LATEST_CLOSINGS} where is_balanced)
    order by entry_number desc limit 1
"""
# The marts are of the day, the models and the switches of the run that built them, which a gate of its own does not.
_LAST_BUILD = """
    select runs.as_of, runs.built_from from ops.steps as steps inner join ops.runs as runs using (run_id)
    where steps.stage = 'build' and steps.status = 'done' order by steps.finished_at desc limit 1
"""


@dataclass(frozen=True)
class Provenance:
    """What made the marts besides raw. `models_hash` is that of the models' files, `switches` of the settings."""

    as_of: date
    models_hash: str = ""
    git_commit: str | None = None
    switches: Mapping[str, bool] = field(default_factory=dict)

    @property
    def noted(self) -> dict[str, Any]:
        """What the ledger notes with a build, which has its day already."""
        return {"models_hash": self.models_hash, "git_commit": self.git_commit, "switches": dict(self.switches)}


@dataclass(frozen=True)
class Closing:
    """The closed books of a run: of each source or partition, and of each candidate mart; `link` ends their chain."""

    books: Sequence[SourceBook]
    candidates: Sequence[CandidateBook]
    link: Link
    provenance: Provenance

    @property
    def sources(self) -> list[SourceBook]:
        """The books of each source, its partitions added up."""
        return [added_up(list(of_source)) for _, of_source in groupby(self.books, key=lambda book: book.source)]

    @property
    def gaps(self) -> list[str]:
        """What does not add up."""
        gaps = [*(book.gap for book in self.books), *(mart.gap for mart in self.candidates)]
        return [gap for gap in gaps if gap]


def close_books(
    warehouse: Warehouse,
    run_id: str,
    sources: Sequence[str],
    keys: Mapping[str, MartKey] | None = None,
    provenance: Provenance | None = None,
) -> Closing:
    """Count, enter in the ledger and give back the books of every source, also of one that read nothing.

    `keys` are those of the marts with a key of one column; `provenance` counts where no build noted its own. An
    abandoned source is given back but not entered, and its loads stay open: they count once it is declared again.
    """
    provenance = provenance or Provenance(datetime.now(UTC).date())
    with open_warehouse(warehouse) as connection:
        chain.widen(connection)
        counted = tallies.count(connection, run_id, keys or {})
        books = _source_books(connection, counted, sources)
        candidates = [_candidate_book(connection, run_id, mart) for mart in counted.marts.values()]
        closing = Closing(books, candidates, chain.newest(connection), _of_last_build(connection, provenance))
        connection.execute("begin")
        link = _enter(connection, run_id, closing)
        failpoint("books.before_commit")
        connection.execute("commit")
        failpoint("books.after_commit")
    return replace(closing, link=link)


def close_mart_books(
    warehouse: Warehouse,
    run_id: str,
    published: Mapping[str, int],
    release_id: int | None = None,
    measures: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[list[MartBook], Link]:
    """Compare every published mart with its candidate, and enter it in the ledger; the newest link too.

    `measures` are those that the target notes of the release: the rows that it has, sums over them and a checksum.
    """
    found = measures or {}
    with open_warehouse(warehouse) as connection:
        chain.widen(connection)
        books = [
            MartBook(
                mart,
                tallies.one(connection, f"select count(*) from marts.{quote_identifier(mart)}"),
                int(found.get(mart, {}).get("rows", rows)),
                release_id,
                found.get(mart, {}),
            )
            for mart, rows in published.items()
        ]
        entries = [("mart_books", _mart_entry(run_id, book)) for book in books]
        connection.execute("begin")
        link = chain.append(connection, entries)
        connection.execute("commit")
    return books, link


def count_landed(warehouse: Warehouse, run_id: str) -> dict[tuple[str, str], dict[str, int]]:
    """By source and partition: the records of the complete loads of one run, however the run ended."""
    names = ("read", "loaded", "dead_lettered", "skipped")
    with open_warehouse(warehouse) as connection:
        tables = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'raw'"
        ).fetchall()
        if not {("loads",), ("_dlt_loads",)} <= set(tables):
            return {}
        found = connection.execute(
            f"""
            with complete_loads as ({tallies.COMPLETE_LOADS} and run_id = ?)
            select source, coalesce(partition, ''), {", ".join(f"sum(records_{name})::bigint" for name in names)}
            from complete_loads group by all
            """,
            [run_id],
        ).fetchall()
    return {(source, partition): dict(zip(names, counts, strict=True)) for source, partition, *counts in found}


def _source_books(connection: duckdb.DuckDBPyConnection, counted: Counted, sources: Sequence[str]) -> list[SourceBook]:
    found = []
    for source in sorted({*sources, *(source for source, _ in counted.read)}):
        parts = sorted(part for name, part in counted.read if name == source) or [""]
        loaded: Mapping[str, Tally] = {}
        books: list[SourceBook] = []
        if f"raw.{source}" in counted.tables:
            loaded = tallies.loaded(connection, source, is_distinct=False)
        books = [_source_book(counted, source, part, loaded.get(part, Tally())) for part in parts]
        if loaded and any(book.gap for book in books):
            loaded = tallies.loaded(connection, source, is_distinct=True)
            books = [_source_book(counted, source, part, loaded.get(part, Tally())) for part in parts]
        is_abandoned = bool(loaded) and source not in counted.known and source not in sources
        found += [replace(book, is_abandoned=is_abandoned) for book in books]
    return found


def _source_book(counted: Counted, source: str, part: str, loaded: Tally) -> SourceBook:
    place = (source, part)
    read, skipped = counted.read.get(place, (0, 0))
    letters = counted.letters.get(place, Tally())
    outcomes = counted.outcomes.get(place, {})
    judged = {name: outcomes.get(name, Tally()).count for name in ("accepted", "duplicate", "rejected")}
    return SourceBook(
        source,
        records_read=read,
        records_loaded=loaded.count,
        records_dead_lettered=letters.count,
        records_skipped=skipped,
        count_accepted=judged["accepted"],
        count_duplicate=judged["duplicate"],
        count_rejected=judged["rejected"],
        partition=part,
        checksum_loaded=loaded.checksum,
        checksum_dead_lettered=letters.checksum,
        checksum_judged=sum(tally.checksum for tally in outcomes.values()),
    )


def _candidate_book(connection: duckdb.DuckDBPyConnection, run_id: str, tally: MartTally) -> CandidateBook:
    if tally.keys is None:
        return CandidateBook(tally.mart, tally.rows.count, tally.rows.checksum)
    row = connection.execute(_BEFORE, {"run_id": run_id, "mart": tally.mart}).fetchone()
    # Where no book of the mart is there yet, what stands of earlier loads is what it opens with.
    before = row[0] if row else tally.kept.count
    return CandidateBook(
        tally.mart,
        tally.rows.count,
        tally.rows.checksum,
        count_before=before,
        count_accepted=tally.accepted.count,
        count_removed=before - tally.kept.count,
        checksum_accepted=tally.accepted.checksum + tally.kept.checksum,
        checksum_keys=tally.keys.checksum,
        count_unknown=tally.rows.count - tally.keys.count,
    )


def _of_last_build(connection: duckdb.DuckDBPyConnection, now: Provenance) -> Provenance:
    built = connection.execute(_LAST_BUILD).fetchone()
    if built is None:
        return now
    as_of, noted = built
    return Provenance(as_of, **json.loads(noted)) if noted else replace(now, as_of=as_of)


def _enter(connection: duckdb.DuckDBPyConnection, run_id: str, closing: Closing) -> Link:
    """Book the loads, where all balances, and make the entries, that of the closing last."""
    is_balanced, provenance = not closing.gaps, closing.provenance
    connection.execute(
        "create or replace temp table loads_booked as select load_id from open_loads "
        "where $is_balanced and not list_contains($abandoned::varchar[], source)",
        {"is_balanced": is_balanced, "abandoned": [book.source for book in closing.books if book.is_abandoned]},
    )
    # What an earlier closing of the run has booked keeps its entry: other runs may have closed theirs in between.
    connection.execute(
        "delete from ops.booked_loads where run_id = ? and load_id not in (select load_id from loads_booked)", [run_id]
    )
    connection.execute(
        "insert into ops.booked_loads (load_id, run_id) select load_id, ? from loads_booked "
        "where load_id not in (select load_id from ops.booked_loads)",
        [run_id],
    )
    loads = tallies.booked_loads(connection)
    header = {
        "run_id": run_id,
        "closed_at": datetime.now(UTC),
        "as_of": provenance.as_of,
        "switches": json.dumps(dict(provenance.switches), sort_keys=True),
        "git_commit": provenance.git_commit,
        "models_hash": provenance.models_hash,
        "duckdb_version": duckdb.__version__,
        "count_loads": loads.count,
        "checksum_loads": str(loads.checksum),
        "is_balanced": is_balanced,
    }
    entries: list[tuple[str, Mapping[str, Any]]] = [
        ("books", {"run_id": run_id, **_columns(book)}) for book in closing.books if not book.is_abandoned
    ]
    entries += [("candidate_books", {"run_id": run_id, **_columns(book)}) for book in closing.candidates]
    link = chain.append(connection, [*entries, ("closings", header)])
    connection.execute(
        "update ops.booked_loads set entry_number = ? where run_id = ? and entry_number is null",
        [link.entry_number, run_id],
    )
    return link


def _columns(book: SourceBook | CandidateBook) -> dict[str, Any]:
    """The columns of a book's entry; checksums are wider than any number of Postgres, so they are texts."""
    values = {each.name: getattr(book, each.name) for each in fields(book)}
    for name in ("is_abandoned", "gap_within"):
        values.pop(name, None)
    texts = {name: str(value) for name, value in values.items() if name.startswith("checksum_") and value is not None}
    return {**values, **texts, "is_balanced": book.is_balanced}


def _mart_entry(run_id: str, book: MartBook) -> dict[str, Any]:
    measures = {name: str(value) for name, value in book.measures.items()}
    return {
        "run_id": run_id,
        "mart": book.mart,
        "count_candidates": book.count_candidates,
        "count_published": book.count_published,
        "release_id": book.release_id,
        "measures": json.dumps(measures, sort_keys=True) if measures else None,
        "is_balanced": book.is_balanced,
    }
