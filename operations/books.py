"""The books: for every source, what was read against what became of it, counted from the data itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from foundation.failpoints import failpoint
from foundation.warehouse import Warehouse, open_warehouse, quote_identifier


@dataclass(frozen=True)
class SourceBook:
    """The books of one source: read = loaded + dead-lettered + skipped, loaded = accepted + duplicate + rejected."""

    source: str
    records_read: int = 0
    records_loaded: int = 0
    records_dead_lettered: int = 0
    records_skipped: int = 0
    count_accepted: int = 0
    count_duplicate: int = 0
    count_rejected: int = 0
    # Its entry is gone from penstock.yml and no outcomes model knows it: nobody waits for it, so it holds no release.
    is_abandoned: bool = False

    @property
    def count_judged(self) -> int:
        """Records that the models gave an outcome."""
        return self.count_accepted + self.count_duplicate + self.count_rejected

    @property
    def farewell(self) -> str:
        """What becomes of the records of a source that is abandoned."""
        records = "1 record stays" if self.records_loaded == 1 else f"{self.records_loaded:,} records stay"
        where = "is in no mart" if self.records_loaded == 1 else "are in no mart"
        return f"{self.source} is not in penstock.yml any more; its {records} in raw and {where}"

    @property
    def is_balanced(self) -> bool:
        """Whether both equations hold."""
        return not self.gap

    @property
    def gap(self) -> str:
        """What does not add up, or nothing."""
        if self.is_abandoned:
            return ""
        went_on = self.records_loaded + self.records_dead_lettered + self.records_skipped
        if self.records_read != went_on:
            return f"{self.source}: {self.records_read:,} read, but {went_on:,} loaded, dead-lettered or skipped"
        if self.records_loaded and not self.count_judged:
            return f"{self.source}: {self.records_loaded:,} loaded, but no outcomes model counts them"
        if self.records_loaded != self.count_judged:
            return f"{self.source}: {self.records_loaded:,} loaded, but {self.count_judged:,} have an outcome"
        return ""


@dataclass(frozen=True)
class MartBook:
    """The books of one mart: candidates = published."""

    mart: str
    count_candidates: int
    count_published: int

    @property
    def is_balanced(self) -> bool:
        """Whether readers get what the gate passed."""
        return self.count_candidates == self.count_published


# A crash can write the row of a load twice.
_COMPLETE_LOADS = """
        select distinct on (load_id) loads.* from raw.loads as loads
        where exists (select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and done.status = 0)
"""
# Complete loads that no balanced book holds: of this run, and of earlier ones that were cut off, stopped or did not
# balance. They stay open until a book balances with them in it, so an imbalance does not heal by running again.
_OPEN_LOADS = f"""
    create or replace temp table open_loads as
    with complete_loads as (
        {_COMPLETE_LOADS} and load_id not in (select load_id from ops.booked_loads where run_id <> $run_id)
    )
    select
        *,
        -- a file that went from A to B and back to A before any book was closed: only the last A counts
        row_number() over (
            partition by source, content_hash, start_bytes, position_bytes, records_skipped < records_read
            order by loaded_at desc, load_id
        ) > 1 as is_repeat
    from complete_loads
"""


def close_books(warehouse: Warehouse, run_id: str, sources: list[str]) -> list[SourceBook]:
    """Count, enter in the ledger and give back the books of every source, also of one that read nothing.

    An abandoned source is given back but not entered, and its loads stay open: they count once it is declared again.
    """
    with open_warehouse(warehouse) as connection:
        books = _count(connection, run_id, sources)
        abandoned = [book.source for book in books if book.is_abandoned]
        connection.execute("begin")
        connection.execute("delete from ops.books where run_id = ?", [run_id])
        connection.execute("delete from ops.booked_loads where run_id = ?", [run_id])
        if all(book.is_balanced for book in books):
            connection.execute(
                "insert into ops.booked_loads select load_id, $run_id from open_loads "
                "where not list_contains($abandoned::varchar[], source)",
                {"run_id": run_id, "abandoned": abandoned},
            )
        entries = [
            [
                run_id,
                book.source,
                book.records_read,
                book.records_loaded,
                book.records_dead_lettered,
                book.records_skipped,
                book.count_accepted,
                book.count_duplicate,
                book.count_rejected,
                book.is_balanced,
            ]
            for book in books
            if not book.is_abandoned
        ]
        if entries:
            connection.executemany("insert into ops.books values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", entries)
        failpoint("books.before_commit")
        connection.execute("commit")
        failpoint("books.after_commit")
    return books


def close_mart_books(warehouse: Warehouse, run_id: str, published: Mapping[str, int]) -> list[MartBook]:
    """Compare every published mart with its candidate, and enter it in the ledger."""
    with open_warehouse(warehouse) as connection:
        books = [
            MartBook(mart, _one(connection, f"select count(*) from marts.{quote_identifier(mart)}"), rows)
            for mart, rows in published.items()
        ]
        connection.executemany(
            "insert into ops.mart_books values (?, ?, ?, ?, ?)",
            [[run_id, book.mart, book.count_candidates, book.count_published, book.is_balanced] for book in books],
        )
    return books


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
            with complete_loads as ({_COMPLETE_LOADS} and run_id = ?)
            select source, coalesce(partition, ''), {", ".join(f"sum(records_{name})::bigint" for name in names)}
            from complete_loads group by all
            """,
            [run_id],
        ).fetchall()
    return {(source, partition): dict(zip(names, counts, strict=True)) for source, partition, *counts in found}


def failed_percent(warehouse: Warehouse, run_id: str) -> float:
    """The share of records dead-lettered or rejected among those read since the last release, in percent.

    Runs that published nothing count along: a bad batch stays bad when the next run reads nothing new.
    """
    with open_warehouse(warehouse) as connection:
        found = connection.execute(
            """
            select sum(records_dead_lettered + count_rejected), sum(records_read - records_skipped)
            from ops.books
            inner join ops.runs using (run_id)
            -- a book that does not balance is made again by the next run, with the same loads in it
            where run_id not in (select unbalanced.run_id from ops.books as unbalanced where not unbalanced.is_balanced)
                and started_at > coalesce(
                (select max(started_at) from ops.runs where release_id is not null and run_id <> $run_id),
                timestamptz '-infinity'
            )
            """,
            {"run_id": run_id},
        ).fetchone()
    failed, judged = found or (0, 0)
    return 100.0 * failed / judged if judged else 0.0


def _count(connection: duckdb.DuckDBPyConnection, run_id: str, sources: list[str]) -> list[SourceBook]:
    tables = {
        f"{schema}.{table}"
        for schema, table in connection.execute(
            "select table_schema, table_name from information_schema.tables"
        ).fetchall()
    }
    if not {"raw.loads", "raw._dlt_loads"} <= tables:
        connection.execute("create or replace temp table open_loads (load_id varchar, source varchar)")
        return [SourceBook(source) for source in sorted(sources)]
    connection.execute(_OPEN_LOADS, {"run_id": run_id})
    read = _pairs(
        connection,
        "select source, sum(records_read)::bigint, "
        "sum(case when is_repeat then records_read else records_skipped end)::bigint from open_loads group by source",
    )
    letters = (
        _pairs(
            connection,
            "select source, count(distinct dead_letter_id) from raw.dead_letters "
            "where load_id in (select load_id from open_loads) group by source",
        )
        if "raw.dead_letters" in tables
        else {}
    )
    outcomes: dict[str, dict[str, int]] = {}
    known = set(sources)
    for table in sorted(name for name in tables if name.startswith("marts.outcomes_")):
        model = f"marts.{quote_identifier(table.removeprefix('marts.'))}"
        known |= {name for (name,) in connection.execute(f"select distinct source from {model}").fetchall()}
        for source, outcome, count in connection.execute(
            f"select source, outcome, count(*) from {model} "
            "where load_id in (select load_id from open_loads) group by source, outcome"
        ).fetchall():
            outcomes.setdefault(source, {})[outcome] = outcomes.get(source, {}).get(outcome, 0) + count
    names = sorted({*sources, *read})
    loaded = {name: _loaded(connection, name) if f"raw.{name}" in tables else 0 for name in names}
    return [
        SourceBook(
            source=source,
            records_read=read.get(source, (0, 0))[0],
            records_loaded=loaded[source],
            records_dead_lettered=letters.get(source, (0,))[0],
            records_skipped=read.get(source, (0, 0))[1],
            count_accepted=outcomes.get(source, {}).get("accepted", 0),
            count_duplicate=outcomes.get(source, {}).get("duplicate", 0),
            count_rejected=outcomes.get(source, {}).get("rejected", 0),
            is_abandoned=loaded[source] > 0 and source not in known,
        )
        for source in names
    ]


def _loaded(connection: duckdb.DuckDBPyConnection, source: str) -> int:
    """Distinct rows in raw: one that a crash had loaded twice is one record."""
    return _one(
        connection,
        f"select count(*) from (select distinct _content_hash, _line from raw.{quote_identifier(source)} "
        "where _load_id in (select load_id from open_loads))",
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _pairs(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, tuple[int, ...]]:
    return {row[0]: tuple(row[1:]) for row in connection.execute(query).fetchall()}
