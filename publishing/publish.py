"""Publishing: the candidate marts become the published tables, all of them in one Postgres transaction."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import psycopg
from psycopg import sql

from foundation.errors import LockedError, PublishError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Output
from foundation.warehouse import Warehouse, open_warehouse
from publishing import candidates, changes, history, memory, releases, roles, tables, target, watch
from publishing.background import Background
from publishing.candidates import Candidate
from publishing.changes import Mart
from publishing.memory import Changes, Memory
from publishing.releases import MartDelta, Measures, Origin, Release, commit
from publishing.rows import stream
from publishing.tables import TablePlan
from publishing.target import Connection, Destination

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
        remembered = memory.memory_of(warehouse, source)
        with (
            Background(source, remembered, is_file=isinstance(warehouse, Path)) as background,
            target.connect(dsn) as connection,
            target.transaction(connection, destination),
        ):
            failpoint("publish.connected")
            publication = _Publication(source, connection, destination, marts, remembered, background, emit)
            works = publication.prepare()
            failpoint("publish.prepared")
            release = publication.make(works, origin)
            background.wait()
            failpoint("publish.before_commit")
            commit(connection, dsn, release)
            failpoint("publish.after_commit")
        remembered.remember(release, {work.name: (work.mart.candidate, work.changes) for work in works})
        failpoint("publish.remembered")
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
    rows_total: int
    plan: TablePlan
    changes: Changes | None
    is_edited: bool

    @property
    def name(self) -> str:
        """Of the mart."""
        return self.mart.candidate.mart

    @property
    def is_done(self) -> bool:
        """Whether the table is known to be as it should."""
        return self.changes is not None and self.changes.is_empty and not self.is_edited


class _Publication:
    """One publish up to its commit. Tables are locked late and in one order, after all rows have come over."""

    def __init__(
        self,
        source: duckdb.DuckDBPyConnection,
        connection: Connection,
        destination: Destination,
        marts: Mapping[str, Candidate],
        remembered: Memory,
        background: Background,
        emit: Emit,
    ) -> None:
        self._memory = remembered
        self._source, self._connection, self._background, self._emit = source, connection, background, emit
        self._marts = marts
        self._destination, self._dsn, self._schema = destination, destination.dsn, destination.schema
        roles.make_reader(connection, destination.roles)
        roles.act_as_publisher(connection, destination.roles, self._schema, list(marts))
        target.ensure_schema(connection, self._schema)
        releases.ensure_table(connection)
        watch.ensure_log(connection)
        self._stands = releases.standing(connection, self._schema)
        self._release_id = releases.next_id(connection)
        self._made: dict[str, Measures] = {}  # by how much a change moved what is measured

    def prepare(self) -> list[_Work]:
        """What is to be done, with the rows that it takes already in the target."""
        marts = self._marts
        known = self._memory.known_marts(marts, self._stands) if self._stands else set()
        plans = {
            name: tables.plan(self._connection, self._schema, each, partial(self._background.fingerprint, each))
            for name, each in marts.items()
        }
        for name in sorted(self._measures.keys() - marts.keys()):
            told = f"{self._schema}.{name} is not among the outputs any more; it stays as it is"
            self._emit(Event("noticed", STAGE, name, told))
        works = []
        for name, candidate in marts.items():
            mart, plan = Mart(self._schema, candidate), plans[name]
            with target.explained(self._dsn, name):
                is_known = name in known and not plan.changes_table and name in self._measures
                found = self._memory.compare(candidate) if is_known else None
                self._background.begin(candidate, is_sent_whole=found is None)
                if found is not None:
                    candidates.refuse_flaws(self._source, candidate, found.changed)
                total = candidates.count_rows(self._source, candidate)
                work = _Work(mart, total, plan, found, not plan.is_new and self._is_edited(mart, plan))
                self._bring_over(work)
                failpoint("publish.table_sent")
                works.append(work)
        self._background.note([work.mart.candidate for work in works if work.changes is None])
        return works

    def make(self, works: Sequence[_Work], origin: Origin) -> Release:
        """The release, not yet committed; or the one that stands where nothing has changed."""
        for work in works:
            if not work.plan.is_new and not work.is_done:
                self._lock(work)
                failpoint("publish.table_locked")
        deltas: dict[str, MartDelta] = {}
        measures: dict[str, Measures] = {}
        for work in works:
            with target.explained(self._dsn, work.name):
                deltas[work.name] = self._change(work)
                failpoint("publish.table_changed")
                measures[work.name] = self._measure(work)
                changes.check(work.mart, measures[work.name], self._background.fingerprint(work.mart.candidate))
                if work.is_edited:
                    watch.mark_seen(self._connection, self._schema, work.name, origin.run_id)
        roles.let_readers_in(self._connection, self._destination.roles, self._schema, list(self._marts))
        is_changed = any(work.plan.changes_table for work in works) or not all(d.is_empty for d in deltas.values())
        if self._stands is not None and not is_changed:
            return releases.unchanged(self._connection, self._schema, self._stands, deltas)
        retention = self._destination.retention
        release = releases.write(self._connection, self._schema, self._release_id, origin, deltas, measures, retention)
        failpoint("publish.release_written")
        history.prune(self._connection, self._schema, deltas, release.oldest_retained)
        return release

    @property
    def _measures(self) -> Mapping[str, Measures]:
        return self._stands.measures if self._stands else {}

    def _is_edited(self, mart: Mart, plan: TablePlan) -> bool:
        """Whether somebody else has changed what readers see of a mart; it is told."""
        name = mart.candidate.mart
        found = watch.edits(self._connection, self._schema, name)
        is_watched = watch.is_watched(self._connection, self._schema, name)
        if is_watched and not found:
            return False
        # What the trigger saw, or could not see, counts where it made a difference to what the release showed.
        before = self._measures.get(name)
        if before is None or (
            not plan.changes_table and changes.are_alike(changes.measure(self._connection, mart), before)
        ):
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
        candidate = mart.candidate
        columns = {column.name: column.as_sent(types[column.name]) for column in candidate.columns}
        if work.plan.is_new:
            _run(self._connection, work.plan.before_rows)
            # Nobody can have seen a table that this transaction makes, so its rows need not be looked at twice.
            self._copy(work, mart.published, columns, candidate.relation, rows, "format binary, freeze true")
        elif work.is_done:
            return
        elif found is None:
            changes.make_temporary(self._connection, mart.arrived, types)
            self._copy(work, mart.arrived, columns, candidate.relation, rows)
        else:
            changes.make_temporary(self._connection, mart.delta, {**types, changes.ACTION: "text"})
            action = f"if({memory.is_remembered(candidate, found)}, 'changed', 'added')"
            self._copy(work, mart.delta, {**columns, changes.ACTION: action}, found.changed, rows)
            keys = {column.name: columns[column.name] for column in candidate.key_columns}
            self._copy(work, mart.delta, {**keys, changes.ACTION: "'removed'"}, found.gone, found.rows_gone)
            if work.is_edited:
                changes.make_temporary(self._connection, mart.kept, types)
                self._copy(work, mart.kept, columns, memory.kept_rows(candidate, found), rows)
        self._background.refuse_flaws(candidate)

    def _copy(
        self,
        work: _Work,
        into: sql.Identifier,
        columns: Mapping[str, str],
        relation: str,
        rows: int,
        options: str = "format binary",
    ) -> None:
        """Copy a relation of the warehouse; `columns` are those of the table, with the SQL of what is sent."""
        if not rows:
            return
        names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
        statement = sql.SQL("copy {} ({}) from stdin (" + options + ")").format(into, names)
        try:
            with (
                closing(stream(self._source, list(columns.values()), relation)) as chunks,
                self._connection.cursor() as cursor,
            ):
                with cursor.copy(statement) as copy:
                    for chunk, share in chunks:
                        copy.write(chunk)
                        if share is not None:
                            self._tell_sent(work, round(share * rows), rows)
                self._tell_sent(work, cursor.rowcount, rows)
        except (psycopg.Error, duckdb.Error) as error:
            self._background.refuse_flaws(work.mart.candidate)  # which knows the row
            if isinstance(error, duckdb.DataError | duckdb.NotSupportedError):
                raise PublishError(
                    f"the rows of {work.name} cannot be sent: {str(error).splitlines()[0]}",
                    where=f"marts.{work.name}",
                    fix="mend the model; nothing was published",
                ) from error
            raise

    def _tell_sent(self, work: _Work, rows_sent: int, rows_total: int) -> None:
        counts = {"rows_sent": rows_sent, "rows_total": rows_total}
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
        elif work.is_edited:
            assert self._stands is not None
            changes.put_right(connection, mart, self._stands.published_at)
        delta, self._made[work.name] = changes.apply(connection, mart, self._release_id, work.rows_total)
        _run(connection, work.plan.after_rows)
        return delta

    def _measure(self, work: _Work) -> Measures:
        """Counts and sums over what the transaction would publish; of a known mart, at the cost of its change."""
        before = self._measures.get(work.name, {})
        # A column that may be null from now on is counted from now on.
        is_known = set(changes.names_of_measures(work.mart)) <= before.keys()
        if work.is_done and is_known:
            return before
        if work.changes is None or work.is_edited or not is_known:
            return changes.measure(self._connection, work.mart)
        made = self._made[work.name]
        return {name: before[name] + value for name, value in made.items()}


def _run(connection: Connection, statements: tuple[sql.Composed, ...]) -> None:
    for statement in statements:
        connection.execute(statement)
