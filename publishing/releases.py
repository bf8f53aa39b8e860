"""Releases: what each publish made visible, written into the target's schema `penstock` by the same transaction."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from foundation.errors import LockedError, PublishError
from foundation.settings import Retention
from publishing import target
from publishing.target import Connection, Destination, ensure_schema

SCHEMA = "penstock"  # not that of the marts: readers browse there
RELEASES = sql.Identifier(SCHEMA, "releases")
COMMIT_SECONDS = 30.0  # how long a lost reply to the commit is inquired after

Kind = Literal["publish", "rollback"]
Measures = Mapping[str, Decimal]

_COLUMNS = {
    "release_id": "bigint primary key",
    "run_id": "text not null",
    "schema_name": "text not null",
    "published_at": "timestamptz not null",
    "marts": "jsonb not null",
    "kind": "text not null default 'publish'",
    # Of a rollback: the release whose rows it shows.
    "shows_release": "bigint",
    "git_commit": "text",
    "gate": "jsonb",
    "measures": "jsonb not null default jsonb_build_object()",
    # Whether every row that it showed is still here.
    "is_retained": "boolean not null default true",
}


@dataclass(frozen=True)
class Origin:
    """Where a release comes from: the run, the commit of the project, and what the gate said of it."""

    run_id: str
    git_commit: str | None = None
    gate: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MartDelta:
    """What one release changed in one mart; `rows_total` is what the mart has since."""

    rows_added: int
    rows_changed: int
    rows_removed: int
    rows_total: int

    @property
    def is_empty(self) -> bool:
        """Whether the mart stayed as it was."""
        return not (self.rows_added or self.rows_changed or self.rows_removed)


@dataclass(frozen=True)
class Release:
    """The release that the target shows after a publish: a new one, or the standing one when nothing had changed.

    `marts` is what this publish changed, so all zero where `is_new` is False. `shows_release` is the publish whose rows
    are shown: another one after a rollback.
    """

    release_id: int
    run_id: str
    published_at: datetime
    is_new: bool
    marts: Mapping[str, MartDelta]
    shows_release: int
    oldest_retained: int

    @property
    def identity(self) -> str:
        """What no other release, of this or of another database, has."""
        return _identity(self.release_id, self.run_id, self.published_at)


@dataclass(frozen=True)
class Standing:
    """The release that a schema shows; `measures` are counts and sums over the rows of each mart."""

    release_id: int
    run_id: str
    published_at: datetime
    shows_release: int
    measures: Mapping[str, Measures]

    @property
    def identity(self) -> str:
        """What no other release, of this or of another database, has."""
        return _identity(self.release_id, self.run_id, self.published_at)


@dataclass(frozen=True)
class Entry:
    """A release as it is listed."""

    release_id: int
    run_id: str
    published_at: datetime
    kind: Kind
    shows_release: int | None
    git_commit: str | None
    gate: Mapping[str, Any]
    marts: Mapping[str, MartDelta]
    is_retained: bool


def ensure_table(connection: Connection) -> None:
    """Make the table of releases, or give one of an older version the columns that it lacks."""
    ensure_schema(connection, SCHEMA)
    there = {name for (name,) in connection.execute(_COLUMNS_THERE, [RELEASES.as_string(connection)]).fetchall()}
    if not there:
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        connection.execute(sql.SQL(f"create table {{}} ({columns})").format(RELEASES))
    for name, kind in _COLUMNS.items():
        if there and name not in there:
            # What older versions replaced is not kept, so nothing of theirs can be restored.
            kind = kind.replace("default true", "default false") if name == "is_retained" else kind
            connection.execute(sql.SQL(f"alter table {{}} add column {name} {kind}").format(RELEASES))


def is_there(connection: Connection) -> bool:
    """Whether the target ever had a release."""
    return bool(connection.execute(_COLUMNS_THERE, [RELEASES.as_string(connection)]).fetchall())


def standing(connection: Connection, schema: str) -> Standing | None:
    """The last release into `schema`."""
    row: Any = connection.execute(
        sql.SQL(
            "select release_id, run_id, published_at, coalesce(shows_release, release_id), measures from {}"
            " where schema_name = %s order by release_id desc limit 1"
        ).format(RELEASES),
        [schema],
    ).fetchone()
    if row is None:
        return None
    measures = {mart: {name: Decimal(text) for name, text in found.items()} for mart, found in row[4].items()}
    return Standing(row[0], row[1], row[2], row[3], measures)


def measures_of(connection: Connection, schema: str, release_id: int) -> Mapping[str, Measures]:
    """The measures of the marts in a release."""
    row: Any = connection.execute(
        sql.SQL("select measures from {} where schema_name = %s and release_id = %s").format(RELEASES),
        [schema, release_id],
    ).fetchone()
    return {
        mart: {name: Decimal(text) for name, text in found.items()} for mart, found in (row[0] if row else {}).items()
    }


def next_id(connection: Connection) -> int:
    """The id of the release that this transaction makes. Only one publisher is ever here: no gap and no race."""
    row: Any = connection.execute(
        sql.SQL("select coalesce(max(release_id), 0) + 1 from {}").format(RELEASES)
    ).fetchone()
    return int(row[0])


def write(
    connection: Connection,
    schema: str,
    release_id: int,
    origin: Origin,
    marts: Mapping[str, MartDelta],
    measures: Mapping[str, Measures],
    retention: Retention,
    *,
    shows_release: int | None = None,
) -> Release:
    """Add a release to the transaction and let old ones go; a rollback names the release whose rows it shows."""
    row: Any = connection.execute(
        sql.SQL(
            "insert into {} (release_id, run_id, schema_name, published_at, marts, kind, shows_release, git_commit,"
            " gate, measures) values (%s, %s, %s, now(), %s, %s, %s, %s, %s, %s) returning published_at"
        ).format(RELEASES),
        [
            release_id,
            origin.run_id,
            schema,
            Jsonb({mart: asdict(delta) for mart, delta in marts.items()}),
            "publish" if shows_release is None else "rollback",
            shows_release,
            origin.git_commit,
            Jsonb(dict(origin.gate)),
            Jsonb({mart: {name: str(value) for name, value in found.items()} for mart, found in measures.items()}),
        ],
    ).fetchone()
    shows = release_id if shows_release is None else shows_release
    oldest = _expire(connection, schema, retention)
    return Release(release_id, origin.run_id, row[0], True, dict(marts), shows, oldest)


def unchanged(connection: Connection, schema: str, stands: Standing, marts: Mapping[str, MartDelta]) -> Release:
    """The release that stands, where a publish found nothing to change."""
    oldest = _oldest_retained(connection, schema)
    return Release(stands.release_id, stands.run_id, stands.published_at, False, marts, stands.shows_release, oldest)


def _expire(connection: Connection, schema: str, retention: Retention) -> int:
    """Let the releases go that are beyond the retention; the oldest that is kept. The one that stands always is."""
    connection.execute(
        sql.SQL(
            "update {0} set is_retained = false where schema_name = %(schema)s and is_retained and release_id not in ("
            " select release_id from {0} where schema_name = %(schema)s"
            " and published_at >= now() - make_interval(secs => %(seconds)s)"
            " order by release_id desc limit %(releases)s)"
            " and release_id <> (select max(release_id) from {0} where schema_name = %(schema)s)"
        ).format(RELEASES),
        {"schema": schema, "seconds": retention.days * 86_400, "releases": retention.count},
    )
    return _oldest_retained(connection, schema)


def _oldest_retained(connection: Connection, schema: str) -> int:
    row: Any = connection.execute(
        sql.SQL("select min(release_id) from {} where schema_name = %s and is_retained").format(RELEASES), [schema]
    ).fetchone()
    return int(row[0] or 0)


def commit(connection: Connection, dsn: str, release: Release) -> None:
    """Commit; when the reply is lost, asks the target whether it happened."""
    try:
        connection.commit()
    except psycopg.OperationalError as error:
        if not release.is_new:  # what it may have put right leaves no trace to look for
            raise
        why = target.message_of(error, dsn)
        if not _was_committed(dsn, release, why):
            raise PublishError(
                f"the connection was lost while committing, and the release was not made: {why}",
                where=target.describe(dsn),
                fix="run again; the target still shows the release before",
            ) from error


def entries(connection: Connection, schema: str, last: int) -> Sequence[Entry]:
    """The last releases into `schema`, newest first."""
    rows: Any = connection.execute(
        sql.SQL(
            "select release_id, run_id, published_at, kind, shows_release, git_commit, gate, marts, is_retained from {}"
            " where schema_name = %s order by release_id desc limit %s"
        ).format(RELEASES),
        [schema, last],
    ).fetchall()
    return [
        Entry(
            release_id=row[0],
            run_id=row[1],
            published_at=row[2],
            kind=row[3],
            shows_release=row[4],
            git_commit=row[5],
            gate=row[6] or {},
            marts={mart: MartDelta(**counts) for mart, counts in row[7].items()},
            is_retained=row[8],
        )
        for row in rows
    ]


def _was_committed(dsn: str, release: Release, why: str) -> bool:
    deadline = time.monotonic() + COMMIT_SECONDS
    while True:
        # Only when the lost session has ended is the publisher's lock free, and the answer final.
        with suppress(PublishError, LockedError), target.connect(dsn) as connection:  # noqa: SIM117
            with target.transaction(connection, Destination(dsn, lock_timeout_seconds=COMMIT_SECONDS)):
                return _is_written(connection, release)
        if time.monotonic() > deadline:
            raise PublishError(
                f"the connection was lost while committing, and the target does not come back: {why}",
                where=f"{target.describe(dsn)}, release {release.release_id}",
                fix="run again when it is there: a release that was made is found, and one that was not is made",
            )
        time.sleep(0.5)


def _is_written(connection: Connection, release: Release) -> bool:
    if not is_there(connection):  # the first publish of all, which would have made the table too
        return False
    row = connection.execute(
        sql.SQL("select from {} where release_id = %s and run_id = %s and published_at = %s").format(RELEASES),
        [release.release_id, release.run_id, release.published_at],
    ).fetchone()
    return row is not None


def _identity(release_id: int, run_id: str, published_at: datetime) -> str:
    return f"{release_id} {run_id} {published_at.timestamp():.6f}"


_COLUMNS_THERE = "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped"
