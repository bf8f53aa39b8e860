"""Publishing: the candidate marts become the published tables, all of them in one Postgres transaction."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from foundation.errors import LockedError, PublishError
from foundation.events import Emit, Event
from foundation.settings import Output
from foundation.warehouse import open_warehouse
from publishing import candidates, releases, tables, target
from publishing.candidates import Candidate, Fingerprint
from publishing.releases import MartDelta, Release
from publishing.tables import TablePlan
from publishing.target import Connection

if TYPE_CHECKING:
    import duckdb

STAGE = "publish"
ACTION = "penstock_action"  # added, changed or removed, in the table of differences
COMMIT_SECONDS = 30.0  # how long a lost reply to the commit is inquired after


def publish(
    warehouse: Path,
    outputs: Mapping[str, Output],
    dsn: str,
    *,
    schema: str,
    run_id: str,
    lock_timeout_seconds: float,
    emit: Emit,
) -> Release:
    """Makes the marts of `warehouse` what readers of `schema` see, or changes nothing at all.

    Rows that are as they were are not touched; readers see one whole release over all marts at any moment. Raises
    ConfigError for an output that its mart does not fit, LockedError when another publisher or a reader's lock does
    not give way, PublishError for the rest.
    """
    target.describe(dsn)
    if not warehouse.exists():
        raise PublishError("there is no warehouse yet", where=str(warehouse), fix="ingest and build first")
    with open_warehouse(warehouse, read_only=True) as source:
        marts = candidates.describe(source, outputs)
        fingerprints = {mart: candidates.inspect(source, candidate) for mart, candidate in marts.items()}
        with target.connect(dsn) as connection, target.transaction(connection, lock_timeout_seconds):
            release = _publish_all(source, connection, dsn, schema, run_id, marts, fingerprints, emit)
            _commit(connection, dsn, release)
    for mart, delta in release.marts.items():
        counts = {
            "rows_added": delta.rows_added,
            "rows_changed": delta.rows_changed,
            "rows_removed": delta.rows_removed,
            "rows_total": delta.rows_total,
        }
        emit(Event("finished", STAGE, mart, counts=counts))
    return release


def _publish_all(
    source: "duckdb.DuckDBPyConnection",
    connection: Connection,
    dsn: str,
    schema: str,
    run_id: str,
    marts: Mapping[str, Candidate],
    fingerprints: Mapping[str, Fingerprint],
    emit: Emit,
) -> Release:
    """Everything up to the commit. Tables are locked late and in one order, after all rows have come over."""
    tables.ensure_schema(connection, schema)
    releases.ensure_table(connection)
    plans = {m: tables.plan(connection, schema, marts[m], fingerprints[m]) for m in marts}
    for mart, candidate in marts.items():
        with target.explained(dsn, mart):
            _bring_over(source, connection, schema, candidate, plans[mart], int(fingerprints[mart]["rows"] or 0), emit)
    for mart, plan in plans.items():
        if not plan.is_new:
            target.lock_table(connection, schema, mart, against_readers=plan.changes_table)
    deltas = {}
    for mart, candidate in marts.items():
        with target.explained(dsn, mart):
            deltas[mart] = _apply(connection, schema, candidate, plans[mart], int(fingerprints[mart]["rows"] or 0))
            _check(connection, schema, candidate, fingerprints[mart])
    stands = releases.standing(connection, schema)
    is_changed = any(plan.changes_table for plan in plans.values()) or not all(d.is_empty for d in deltas.values())
    if stands is None or is_changed:
        return releases.write(connection, schema, run_id, deltas)
    return Release(*stands, is_new=False, marts=deltas)


def _bring_over(
    source: "duckdb.DuckDBPyConnection",
    connection: Connection,
    schema: str,
    candidate: Candidate,
    plan: TablePlan,
    rows_total: int,
    emit: Emit,
) -> None:
    """Copies the mart into a new table, or beside a standing one into a temporary table with the same types."""
    emit(Event("started", STAGE, candidate.mart, counts={"rows_total": rows_total}))
    if plan.is_new:
        into = _published(schema, candidate)
        _run(connection, plan.before_rows)
    else:
        into = _arrived(candidate)
        columns = [sql.SQL("{} " + plan.types[c.name]).format(sql.Identifier(c.name)) for c in candidate.columns]
        connection.execute(
            sql.SQL("create temporary table {} ({}) on commit drop").format(into, sql.SQL(", ").join(columns))
        )
    statement = sql.SQL("copy {} ({}) from stdin (format csv)").format(into, _names(candidate))
    rows_sent = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for rows, text in candidates.csv_batches(source, candidate):
            copy.write(text)
            rows_sent += rows
            emit(Event("progressed", STAGE, candidate.mart, counts={"rows_sent": rows_sent, "rows_total": rows_total}))


def _apply(connection: Connection, schema: str, candidate: Candidate, plan: TablePlan, rows_total: int) -> MartDelta:
    """Makes the table equal to what arrived, touching only rows that differ."""
    published, arrived = _published(schema, candidate), _arrived(candidate)
    if plan.is_new:
        _run(connection, plan.after_rows)
        connection.execute(sql.SQL("analyze {}").format(published))
        return MartDelta(rows_total, 0, 0, rows_total)
    _run(connection, plan.before_rows)
    # The difference is its own table, and not a MERGE, so that one path serves every version of Postgres at the same
    # cost, and each kind of change is a set of keys.
    delta = sql.Identifier("pg_temp", f"d {candidate.mart}")
    connection.execute(_difference(published, arrived, delta, candidate))
    parts = {"published": published, "delta": delta, "action": sql.Identifier(ACTION)}
    same_key = _same_key("d", candidate)
    # Removed rows go first, so that a value that must be unique is free for the row that takes it over.
    removed = connection.execute(
        sql.SQL("delete from {published} as t using {delta} as d where d.{action} = 'removed' and {same_key}").format(
            **parts, same_key=same_key
        )
    ).rowcount
    new_values = [sql.SQL("{0} = d.{0}").format(sql.Identifier(column.name)) for column in candidate.others]
    changed = connection.execute(
        sql.SQL(
            "update {published} as t set {new_values} from {delta} as d where d.{action} = 'changed' and {same_key}"
        ).format(
            **parts,
            new_values=sql.SQL(", ").join([*new_values, sql.SQL("updated_at = now()")]),
            same_key=same_key,
        )
    ).rowcount
    added = connection.execute(
        sql.SQL(
            "insert into {published} ({names}, created_at, updated_at)"
            " select {names}, now(), now() from {delta} where {action} = 'added'"
        ).format(**parts, names=_names(candidate))
    ).rowcount
    _run(connection, plan.after_rows)
    return MartDelta(added, changed, removed, rows_total)


def _difference(
    published: sql.Identifier, arrived: sql.Identifier, delta: sql.Identifier, candidate: Candidate
) -> sql.Composed:
    first_key = sql.Identifier(candidate.output.key[0])
    keys = [sql.SQL("coalesce(s.{0}, t.{0}) as {0}").format(sql.Identifier(name)) for name in candidate.output.key]
    others = [sql.Identifier(column.name) for column in candidate.others]
    differs = [sql.SQL("t.{0} is distinct from s.{0}").format(name) for name in others]
    return sql.SQL(
        "create temporary table {delta} on commit drop as select"
        " case when t.{key} is null then 'added' when s.{key} is null then 'removed' else 'changed' end as {action},"
        " {columns} from {arrived} as s full join {published} as t on {same_key}"
        " where t.{key} is null or s.{key} is null{differs}"
    ).format(
        delta=delta,
        key=first_key,
        action=sql.Identifier(ACTION),
        columns=sql.SQL(", ").join([*keys, *(sql.SQL("s.{}").format(name) for name in others)]),
        arrived=arrived,
        published=published,
        same_key=_same_key("s", candidate),
        differs=sql.SQL("").join(sql.SQL(" or ") + part for part in differs),
    )


def _check(connection: Connection, schema: str, candidate: Candidate, wanted: Fingerprint) -> None:
    """Compares what the transaction would publish with the candidate; whatever lost or bent a row on the way shows."""
    measures = candidates.fingerprint_sql(candidate, in_postgres=True)
    statement = sql.SQL("select {} from {}").format(
        sql.SQL(", ").join(sql.SQL(expression) for expression in measures.values()), _published(schema, candidate)
    )
    row = connection.execute(statement).fetchone()
    assert row is not None
    found = dict(zip(measures, row, strict=True))
    for measure, value in wanted.items():
        if found[measure] != value:
            raise PublishError(
                f"{measure}: the mart has {value}, the table would have {found[measure]}",
                where=f"{schema}.{candidate.mart}",
                fix="look for two rows with one key, or triggers, rules and policies on the table; nothing was changed",
            )


def _commit(connection: Connection, dsn: str, release: Release) -> None:
    """Commits; when the reply is lost, asks the target whether it happened."""
    try:
        connection.commit()
    except psycopg.OperationalError as error:
        if release.is_new and not _was_committed(dsn, release):
            raise PublishError(
                "the connection was lost while committing, and the release was not made",
                where=target.describe(dsn),
                fix="run again; the target still shows the release before",
            ) from error


def _was_committed(dsn: str, release: Release) -> bool:
    deadline = time.monotonic() + COMMIT_SECONDS
    while True:
        # Only when the lost session has ended is the publisher's lock free, and the answer final.
        with suppress(PublishError, LockedError), target.connect(dsn) as connection:  # noqa: SIM117
            with target.transaction(connection, COMMIT_SECONDS):
                return releases.is_written(connection, release)
        if time.monotonic() > deadline:
            raise PublishError(
                "the connection was lost while committing, and the target does not come back",
                where=f"{target.describe(dsn)}, release {release.release_id}",
                fix="run again when it is there: a release that was made is found, and one that was not is made",
            )
        time.sleep(0.5)


def _run(connection: Connection, statements: tuple[sql.Composed, ...]) -> None:
    for statement in statements:
        connection.execute(statement)


def _published(schema: str, candidate: Candidate) -> sql.Identifier:
    return sql.Identifier(schema, candidate.mart)


def _arrived(candidate: Candidate) -> sql.Identifier:
    return sql.Identifier("pg_temp", candidate.mart)


def _names(candidate: Candidate) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in candidate.columns)


def _same_key(other: str, candidate: Candidate) -> sql.Composed:
    return sql.SQL(" and ").join(
        sql.SQL("t.{0} = {1}.{0}").format(sql.Identifier(name), sql.Identifier(other)) for name in candidate.output.key
    )
