"""Releases: what each publish made visible, written into the target's schema `penstock` by the same transaction."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from publishing.tables import ensure_schema
from publishing.target import Connection

SCHEMA = "penstock"  # not that of the marts: readers browse there
RELEASES = sql.Identifier(SCHEMA, "releases")


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

    `marts` is what this publish changed, so all zero where `is_new` is False.
    """

    release_id: int
    run_id: str
    published_at: datetime
    is_new: bool
    marts: Mapping[str, MartDelta]


def ensure_table(connection: Connection) -> None:
    """Makes the table of releases when it is missing."""
    ensure_schema(connection, SCHEMA)
    if connection.execute("select to_regclass(%s)", [RELEASES.as_string(connection)]).fetchone() == (None,):
        connection.execute(
            sql.SQL(
                "create table {} (release_id bigint primary key, run_id text not null, schema_name text not null,"
                " published_at timestamptz not null, marts jsonb not null)"
            ).format(RELEASES)
        )


def standing(connection: Connection, schema: str) -> tuple[int, str, datetime] | None:
    """Id, run and time of the last release into `schema`."""
    row: Any = connection.execute(
        sql.SQL(
            "select release_id, run_id, published_at from {} where schema_name = %s order by release_id desc limit 1"
        ).format(RELEASES),
        [schema],
    ).fetchone()
    return row and (row[0], row[1], row[2])


def write(connection: Connection, schema: str, run_id: str, marts: Mapping[str, MartDelta]) -> Release:
    """Adds a release to the transaction. Only one publisher is ever here, so the ids have no gap and no race."""
    row: Any = connection.execute(
        sql.SQL(
            "insert into {0} select coalesce(max(release_id), 0) + 1, %s, %s, now(), %s from {0}"
            " returning release_id, published_at"
        ).format(RELEASES),
        [run_id, schema, Jsonb({mart: asdict(delta) for mart, delta in marts.items()})],
    ).fetchone()
    return Release(row[0], run_id, row[1], is_new=True, marts=dict(marts))


def is_written(connection: Connection, release: Release) -> bool:
    """Whether `release` was committed; asked when the reply to the commit was lost."""
    row = connection.execute(
        sql.SQL("select from {} where release_id = %s and run_id = %s and published_at = %s").format(RELEASES),
        [release.release_id, release.run_id, release.published_at],
    ).fetchone()
    return row is not None
