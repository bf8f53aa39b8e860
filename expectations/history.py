"""What earlier runs saw: the bounds of a suite that are not the same for ever come from here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from foundation.queries import IS_COMPLETE, read_tables
from foundation.warehouse import quote_literal


@dataclass(frozen=True)
class History:
    """The ledger as far as a suite needs it. Empty before the first release."""

    judged_at: datetime
    failure_threshold_percent: float = 10.0
    failure_min_records: int = 1  # fewer stop no run
    judged_apart: Sequence[str] = ()  # sources with a threshold of their own, which is judged with the books
    released_at: datetime | None = None  # end of the last run that published; a run that a gate stopped leaves no mark
    published_counts: Mapping[str, int] = field(default_factory=dict)  # mart -> rows in the last release that had it
    booked_counts: Mapping[str, int] = field(
        default_factory=dict
    )  # raw table -> records that its complete loads booked
    observed: Mapping[tuple[str, str, str], str] = field(default_factory=dict)  # when the last release was judged
    has_replays: bool = False  # whether raw.loads tells which loads are replays
    has_letters: bool = False  # whether there is a ledger of dead letters

    def last(self, suite: str, expectation: str, column: str = "") -> float | None:
        """The number that this check saw when the last release was judged, or None.

        `expectation` and `column` are those of the ledger; the column of a measure is its name.
        """
        try:
            return float(self.observed[suite, expectation, column])
        except (KeyError, ValueError):
            return None

    def stopping_percent(self, failed: str, judged: str) -> str:
        """An SQL expression: the share in percent of `failed` in `judged`, 0 where these are too few to stop a run."""
        return f"case when {judged} >= {self.failure_min_records} then 100.0 * {failed} / {judged} else 0 end"

    def judged_together(self, column: str) -> str:
        """An SQL condition: the source in `column` has no threshold of its own."""
        names = ", ".join(quote_literal(name) for name in self.judged_apart)
        return f"{column} not in ({names})" if names else "true"

    def first_read(self, load: str) -> str:
        """An SQL condition: the load in the column `load` came from a source, and is not a replay of dead letters.

        A replay says nothing of how good a batch is: what fails in it again has failed before.
        """
        replays = "select load_id from raw.loads where kind = 'replay'"
        return f"coalesce({load} not in ({replays}), true)" if self.has_replays else "true"

    def unsettled(self, record: str) -> str:
        """An SQL condition: nobody has discarded or set right the rejected record in the row `record` of outcomes."""
        if not self.has_letters:
            return "true"
        return f"""not exists (
            select 1 from ops.dead_letters as letters
            where letters.stage = 'rule' and letters.state in ('resolved', 'discarded')
                and letters.source = {record}.source and letters.content_hash = {record}.content_hash
                and letters.line = {record}.line
        )"""

    def unreleased(self, suite: str, column: str) -> str:
        """An SQL condition: by `column`, a timestamp of loading, a row came after those that the last release has.

        Such rows are judged again and again until a release has them. Which it has is told by the newest time that the
        suite's ExpectColumnMaxToBeBetween saw: rows that came between its judgement and its end were not in it.
        """
        if self.released_at is None:
            return "true"
        newest = _as_time(self.observed.get((suite, "expect_column_max_to_be_between", column), ""))
        released_at = min(newest or self.released_at, self.released_at)
        literal = quote_literal(released_at.astimezone(UTC).isoformat())
        return f"({column} > cast({literal} as timestamptz) or {column} is null)"


def read_history(
    connection: duckdb.DuckDBPyConnection,
    *,
    judged_at: datetime,
    failure_threshold_percent: float,
    failure_min_records: int = 1,
    judged_apart: Sequence[str] = (),
) -> History:
    """The history that the warehouse holds; a ledger or a raw table that is not there yet reads as empty."""
    tables = read_tables(connection)
    released_at = _released_at(connection) if tables.has("ops.runs") else None
    return History(
        judged_at=judged_at,
        failure_threshold_percent=failure_threshold_percent,
        failure_min_records=failure_min_records,
        judged_apart=judged_apart,
        released_at=released_at,
        published_counts=_published(connection) if tables.has("ops.runs") and tables.has("ops.mart_books") else {},
        booked_counts=_booked(connection) if tables.has("raw.loads") and tables.has("raw._dlt_loads") else {},
        observed=_observed(connection, released_at) if released_at and tables.has("ops.gate_results") else {},
        has_replays=tables.has("raw.loads", "kind"),
        has_letters=tables.has("ops.dead_letters"),
    )


def _released_at(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    # The end of the run, because its own rows carry the time at which it started.
    row = connection.execute(
        "select max(coalesce(finished_at, started_at)) from ops.runs where release_id is not null"
    ).fetchone()
    released_at = row[0] if row else None
    assert released_at is None or isinstance(released_at, datetime)
    return released_at


def _published(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    rows = connection.execute(
        """
        select books.mart, arg_max(books.count_published, coalesce(runs.finished_at, runs.started_at))
        from ops.mart_books as books
        inner join ops.runs as runs on books.run_id = runs.run_id
        where runs.release_id is not null and books.count_published is not null
        group by books.mart
        """
    ).fetchall()
    return dict(rows)


def _booked(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    # A crash can write a load twice, and a load that never completed does not count.
    rows = connection.execute(
        f"""
        select source, sum(records_loaded)::bigint
        from (
            select distinct on (loads.load_id) loads.source, loads.records_loaded
            from raw.loads as loads where {IS_COMPLETE}
        )
        group by source
        """
    ).fetchall()
    return {source: records for source, records in rows if records}


def _observed(connection: duckdb.DuckDBPyConnection, released_at: datetime) -> dict[tuple[str, str, str], str]:
    # By time and not by run, because a gate and a publication can be commands of their own.
    rows = connection.execute(
        """
        select suite, expectation, coalesce(column_name, ''), arg_max(observed_value, checked_at)
        from ops.gate_results
        where checked_at <= ? and observed_value is not null
        group by all
        """,
        [released_at],
    ).fetchall()
    return {(suite, expectation, column): value for suite, expectation, column, value in rows}


def _as_time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
