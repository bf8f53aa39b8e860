"""Rollback: readers see the rows of an earlier release again, which is a release of its own."""

from collections.abc import Mapping

from psycopg import sql

from foundation.errors import PublishError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from publishing import changes, history, past, releases, roles, target, watch
from publishing.changes import CHECKSUM, Mart
from publishing.releases import MartDelta, Measures, Origin, Release
from publishing.target import Connection, Destination

STAGE = "rollback"


def rollback(destination: Destination, release_id: int | None, origin: Origin, emit: Emit) -> Release:
    """Show what a retained release showed, by default the publish before the one that is shown, over all marts at once.

    A mart that the release did not have is emptied. The next publish goes forward again. Raises PublishError for a
    release that cannot be read or does not add up any more, LockedError as publishing does.
    """
    dsn, schema = destination.dsn, destination.schema
    with target.connect(dsn) as connection, target.transaction(connection, destination):
        stands = past.require_standing(connection, dsn, schema)
        wanted = past.before(connection, dsn, schema, stands.shows_release) if release_id is None else release_id
        entry = past.require_retained(connection, dsn, schema, wanted)
        shows = entry.shows_release or wanted
        if stands.shows_release == shows:
            none = {mart: MartDelta(0, 0, 0, delta.rows_total) for mart, delta in entry.marts.items()}
            return releases.unchanged(connection, schema, stands, none)
        recorded = releases.measures_of(connection, schema, wanted)
        marts = past.read_marts(connection, dsn, schema, sorted({*recorded, *stands.measures}))
        roles.act_as_publisher(connection, destination.roles, schema, list(marts))
        watch.ensure_log(connection)
        for mart in marts.values():
            target.lock_table(connection, schema, mart.candidate.mart, against_readers=False)
        number = releases.next_id(connection)
        deltas, measures = {}, {}
        for name, mart in marts.items():
            emit(Event("started", STAGE, name))
            with target.explained(dsn, name):
                deltas[name] = _restore(connection, mart, wanted if name in recorded else None, number)
                failpoint("rollback.table_restored")
                measures[name] = changes.measure(connection, mart)
                _check(mart, wanted, measures[name], recorded.get(name, {}))
        release = releases.write(
            connection, schema, number, origin, deltas, measures, destination.retention, shows_release=shows
        )
        history.prune(connection, schema, deltas, release.oldest_retained)
        failpoint("rollback.before_commit")
        releases.commit(connection, dsn, release)
        failpoint("rollback.after_commit")
    for name, delta in release.marts.items():
        counts = {"rows_added": delta.rows_added, "rows_changed": delta.rows_changed}
        emit(Event("finished", STAGE, name, counts=counts | {"rows_removed": delta.rows_removed}))
    return release


def _restore(connection: Connection, mart: Mart, release_id: int | None, number: int) -> MartDelta:
    """Make a mart what it was in a release; without one, empty."""
    rows = sql.SQL("select {}, created_at from {} ({})").format(
        mart.names, history.as_of(mart.schema, mart.candidate.mart), sql.Literal(release_id)
    )
    if release_id is None:
        rows = sql.SQL("select {}, created_at from {} where false").format(mart.names, mart.published)
    connection.execute(sql.SQL("create temporary table {} on commit drop as {}").format(mart.arrived, rows))
    connection.execute(sql.SQL("analyze {}").format(mart.arrived))
    total = connection.execute(sql.SQL("select count(*) from {}").format(mart.arrived)).fetchone()
    assert total is not None
    changes.find_all(connection, mart)
    delta, _ = changes.apply(connection, mart, number, total[0])
    connection.execute(
        sql.SQL(
            "update {} as t set created_at = s.created_at from {} as s where {} and t.created_at <> s.created_at"
        ).format(mart.published, mart.arrived, mart.same_key("t", "s"))
    )
    return delta


def _check(mart: Mart, release_id: int, found: Measures, recorded: Mapping[str, object]) -> None:
    """Compare what would be shown with what the release noted of its rows, as far as the columns are the same."""
    names = set(found) if set(found) <= set(recorded) else {*found} & {*recorded} - {CHECKSUM}
    for name in sorted(names):
        if found[name] != recorded[name]:
            raise PublishError(
                f"{name}: release {release_id} had {recorded[name]}, its rows that are kept have {found[name]}",
                where=f"{mart.schema}.{mart.candidate.mart}",
                fix="the table was changed by hand: publish puts it right, then roll back; rows that were"
                " deleted by hand come back only from the last release on; nothing was changed",
            )
