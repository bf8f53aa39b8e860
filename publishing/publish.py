"""Publishing: the candidate marts become the published tables, all of them in one Postgres transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from foundation.errors import LockedError, PublishError
from foundation.events import Emit, Event
from foundation.settings import Output
from foundation.warehouse import Warehouse, open_warehouse
from publishing import candidates, changes, history, memory, releases, roles, tables, target, watch
from publishing.candidates import Candidate, Column, Fingerprint
from publishing.changes import Mart
from publishing.memory import Changes
from publishing.releases import MartDelta, Measures, Origin, Release, commit
from publishing.tables import TablePlan
from publishing.target import Connection, Destination

if TYPE_CHECKING:
    import duckdb

STAGE = "publish"


def publish(
    warehouse: Warehouse,
    outputs: Mapping[str, Output],
    destination: Destination,
    origin: Origin,
    emit: Emit,
) -> Release:
    """Makes the marts of `warehouse` what readers see, or changes nothing at all.

    Rows that are as they were are neither sent nor touched; readers see one whole release over all marts at any
    moment. Raises ConfigError for an output that its mart does not fit, LockedError when another publisher or a
    reader's lock does not give way, PublishError for the rest.
    """
    dsn = destination.dsn
    target.describe(dsn)
    if not warehouse.exists():
        raise PublishError("there is no warehouse yet", where=str(warehouse), fix="ingest and build first")
    with open_warehouse(warehouse) as source:
        marts = candidates.describe(source, outputs)
        fingerprints = {mart: candidates.inspect(source, candidate) for mart, candidate in marts.items()}
        with target.connect(dsn) as connection, target.transaction(connection, destination):
            publication = _Publication(source, connection, destination, marts, emit)
            works = publication.prepare(fingerprints)
            release = publication.make(works, origin)
            commit(connection, dsn, release)
        memory.remember(source, release, {work.name: (work.mart.candidate, work.changes) for work in works})
    for mart, delta in release.marts.items():
        counts = {
            "rows_added": delta.rows_added,
            "rows_changed": delta.rows_changed,
            "rows_removed": delta.rows_removed,
            "rows_total": delta.rows_total,
        }
        emit(Event("finished", STAGE, mart, counts=counts))
    return release


@dataclass(frozen=True)
class _Work:
    """What is to be done for one mart. Where `changes` is None all its rows are sent and compared in the target."""

    mart: Mart
    fingerprint: Fingerprint
    plan: TablePlan
    changes: Changes | None
    is_edited: bool

    @property
    def name(self) -> str:
        """Of the mart."""
        return self.mart.candidate.mart

    @property
    def rows_total(self) -> int:
        """Rows of the candidate."""
        return int(self.fingerprint["rows"] or 0)

    @property
    def is_done(self) -> bool:
        """Whether the table is known to be as it should."""
        return self.changes is not None and self.changes.is_empty and not self.is_edited


class _Publication:
    """One publish up to its commit. Tables are locked late and in one order, after all rows have come over."""

    def __init__(
        self,
        source: "duckdb.DuckDBPyConnection",
        connection: Connection,
        destination: Destination,
        marts: Mapping[str, Candidate],
        emit: Emit,
    ) -> None:
        self._source, self._connection, self._marts, self._emit = source, connection, marts, emit
        self._destination, self._dsn, self._schema = destination, destination.dsn, destination.schema
        roles.make_reader(connection, destination.roles)
        roles.act_as_publisher(connection, destination.roles, self._schema, list(marts))
        target.ensure_schema(connection, self._schema)
        releases.ensure_table(connection)
        watch.ensure_log(connection)
        self._stands = releases.standing(connection, self._schema)
        self._release_id = releases.next_id(connection)

    def prepare(self, fingerprints: Mapping[str, Fingerprint]) -> list[_Work]:
        """What is to be done, with the rows that it takes already in the target."""
        marts = self._marts
        known = memory.known_marts(self._source, marts, self._stands) if self._stands else set()
        plans = {name: tables.plan(self._connection, self._schema, marts[name], fingerprints[name]) for name in marts}
        works = []
        for name, candidate in marts.items():
            mart, plan = Mart(self._schema, candidate), plans[name]
            with target.explained(self._dsn, name):
                is_known = name in known and not plan.changes_table and name in self._measures
                found = memory.compare(self._source, candidate) if is_known else None
                work = _Work(mart, fingerprints[name], plan, found, not plan.is_new and self._is_edited(mart, plan))
                self._bring_over(work)
                works.append(work)
        return works

    def make(self, works: Sequence[_Work], origin: Origin) -> Release:
        """The release, not yet committed; or the one that stands where nothing has changed."""
        for work in works:
            if not work.plan.is_new and not work.is_done:
                self._lock(work)
        deltas: dict[str, MartDelta] = {}
        measures: dict[str, Measures] = {}
        for work in works:
            with target.explained(self._dsn, work.name):
                deltas[work.name] = self._change(work)
                measures[work.name] = self._measure(work)
                changes.check(work.mart, measures[work.name], work.fingerprint)
                if work.is_edited:
                    watch.mark_seen(self._connection, self._schema, work.name, origin.run_id)
        roles.let_readers_in(self._connection, self._destination.roles, self._schema, list(self._marts))
        is_changed = any(work.plan.changes_table for work in works) or not all(d.is_empty for d in deltas.values())
        if self._stands is not None and not is_changed:
            stands = self._stands
            return Release(stands.release_id, stands.run_id, stands.published_at, is_new=False, marts=deltas)
        release = releases.write(self._connection, self._schema, self._release_id, origin, deltas, measures)
        oldest = releases.expire(self._connection, self._schema, self._destination.retention)
        history.prune(self._connection, self._schema, deltas, oldest)
        return release

    @property
    def _measures(self) -> Mapping[str, Measures]:
        return self._stands.measures if self._stands else {}

    def _is_edited(self, mart: Mart, plan: TablePlan) -> bool:
        """Whether somebody else has changed what readers see of a mart; it is told."""
        name = mart.candidate.mart
        found = watch.edits(self._connection, self._schema, name)
        is_watched = watch.is_watched(self._connection, self._schema, name)
        if name not in self._measures or (is_watched and not found):
            return False
        # What the trigger saw, or could not see, counts where it made a difference.
        if not plan.changes_table and changes.are_alike(changes.measure(self._connection, mart), self._measures[name]):
            watch.mark_seen(self._connection, self._schema, name, self._stands.run_id if self._stands else "")
            return False
        who = f" ({found[-1]})" if found else ""
        self._emit(Event("noticed", STAGE, name, f"{self._schema}.{name} was changed by hand{who}; it is put right"))
        return True

    def _bring_over(self, work: _Work) -> None:
        """Copies rows into a new table, or beside a standing one into temporary tables with the same types."""
        mart, types, found = work.mart, work.plan.types, work.changes
        rows = work.rows_total if found is None or work.is_edited else found.rows_changed
        self._emit(Event("started", STAGE, work.name, counts={"rows_total": rows}))
        if work.plan.is_new:
            _run(self._connection, work.plan.before_rows)
            self._copy(work, mart.published, mart.candidate.columns, mart.candidate.relation, rows)
            return
        if work.is_done:
            return
        changes.make_temporary(self._connection, mart.arrived, types)
        if found is None:
            self._copy(work, mart.arrived, mart.candidate.columns, mart.candidate.relation, rows)
            return
        changes.make_temporary(self._connection, mart.gone, {name: types[name] for name in mart.candidate.output.key})
        columns = mart.candidate.columns
        self._copy(work, mart.arrived, columns, memory.changed_rows(mart.candidate, found), rows)
        self._copy(work, mart.gone, mart.candidate.key_columns, found.gone, rows)
        if work.is_edited:
            changes.make_temporary(self._connection, mart.kept, types)
            self._copy(work, mart.kept, columns, memory.kept_rows(mart.candidate, found), rows)

    def _copy(
        self, work: _Work, into: sql.Identifier, columns: Sequence[Column], relation: str, rows_to_send: int
    ) -> None:
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        statement = sql.SQL("copy {} ({}) from stdin (format csv)").format(into, names)
        sent = 0
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for rows, text in candidates.csv_batches(self._source, columns, relation):
                copy.write(text)
                sent += rows
                counts = {"rows_sent": sent, "rows_total": rows_to_send}
                self._emit(Event("progressed", STAGE, work.name, counts=counts))

    def _lock(self, work: _Work) -> None:
        target.lock_table(self._connection, self._schema, work.name, against_readers=work.plan.changes_table)
        if not work.is_edited and watch.edits(self._connection, self._schema, work.name):
            raise LockedError(
                f"the table {self._schema}.{work.name} was written to while it was being published",
                where=target.describe(self._dsn),
                fix="run again; the target still shows the release before",
            )

    def _change(self, work: _Work) -> MartDelta:
        """Makes the table equal to what arrived."""
        connection, mart = self._connection, work.mart
        if work.is_done:
            return MartDelta(0, 0, 0, work.rows_total)
        if work.plan.is_new:
            _run(connection, work.plan.after_rows)
            connection.execute(sql.SQL("analyze {}").format(mart.published))
            watch.watch(connection, self._schema, work.name)
            history.ensure(connection, self._schema, work.name, work.plan.types)
            return MartDelta(work.rows_total, 0, 0, work.rows_total)
        _run(connection, work.plan.before_rows)
        if not watch.is_watched(connection, self._schema, work.name):
            watch.watch(connection, self._schema, work.name)
        history.ensure(connection, self._schema, work.name, work.plan.types)
        if work.changes is None:
            changes.find_all(connection, mart)
        else:
            if work.is_edited:
                assert self._stands is not None
                changes.put_right(connection, mart, self._stands.published_at)
            changes.find_among(connection, mart)
        delta = changes.apply(connection, mart, self._release_id, work.rows_total)
        _run(connection, work.plan.after_rows)
        return delta

    def _measure(self, work: _Work) -> Measures:
        """Counts and sums over what the transaction would publish; of a known mart, at the cost of its change."""
        if work.is_done:
            return self._measures[work.name]
        if work.changes is None or work.is_edited:
            return changes.measure(self._connection, work.mart)
        return changes.measure_after(self._connection, work.mart, self._measures[work.name], self._release_id)


def _run(connection: Connection, statements: tuple[sql.Composed, ...]) -> None:
    for statement in statements:
        connection.execute(statement)
