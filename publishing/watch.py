"""The watch over published tables: whoever else writes into one leaves a line in `penstock.edits`.

A trigger tells at no cost that somebody wrote; the measures of the rows tell whether that changed what readers see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from publishing.releases import SCHEMA
from publishing.target import Connection

EDITS = sql.Identifier(SCHEMA, "edits")
NOTE_EDIT = sql.Identifier(SCHEMA, "note_edit")
TRIGGER = "penstock_watch"
PUBLISHING = "penstock.is_publishing"  # a setting of the publisher's transaction


@dataclass(frozen=True)
class Edit:
    """A statement that somebody else than the publisher ran on a published table."""

    operation: str
    role: str
    program: str
    edited_at: datetime

    def __str__(self) -> str:
        who = f"{self.role}, {self.program}" if self.program else self.role
        return f"{self.operation} by {who}, {self.edited_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ensure_log(connection: Connection) -> None:
    """Make the table of edits and the trigger function; from here on this transaction is the publisher's."""
    connection.execute("select set_config(%s, 'on', true)", [PUBLISHING])
    row = connection.execute("select to_regclass(%s)", [EDITS.as_string(connection)]).fetchone()
    if row and row[0] is not None:
        return
    connection.execute(
        sql.SQL(
            "create table {} (edit_id bigint generated always as identity primary key, schema_name text not null,"
            " mart text not null, operation text not null, role text not null, program text not null,"
            " edited_at timestamptz not null, seen_by_run text)"
        ).format(EDITS)
    )
    # It runs as its owner: who may edit a mart need not be allowed to write here.
    body = sql.SQL(
        "begin\n"
        "  if current_setting({setting}, true) is distinct from 'on' then\n"
        "    insert into {edits} (schema_name, mart, operation, role, program, edited_at) values (tg_table_schema,\n"
        "      tg_table_name, lower(tg_op), session_user, current_setting('application_name'), now());\n"
        "  end if;\n"
        "  return null;\n"
        "end"
    ).format(setting=sql.Literal(PUBLISHING), edits=EDITS)
    connection.execute(
        sql.SQL(
            "create function {} () returns trigger language plpgsql security definer"
            " set search_path = pg_catalog, pg_temp as {}"
        ).format(NOTE_EDIT, sql.Literal(body.as_string(connection)))
    )


def is_watched(connection: Connection, schema: str, mart: str) -> bool:
    """Whether every write into the table of a mart is noted."""
    row = connection.execute(
        "select from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_namespace as n"
        " on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s and t.tgname = %s and t.tgenabled = 'O'",
        [schema, mart, TRIGGER],
    ).fetchone()
    return row is not None


def watch(connection: Connection, schema: str, mart: str) -> None:
    """Note every write into the table of a mart from now on."""
    table = sql.Identifier(schema, mart)
    connection.execute(sql.SQL("drop trigger if exists {} on {}").format(sql.Identifier(TRIGGER), table))
    connection.execute(
        sql.SQL(
            "create trigger {} after insert or update or delete or truncate on {} for each statement"
            " execute function {} ()"
        ).format(sql.Identifier(TRIGGER), table, NOTE_EDIT)
    )


def edits(connection: Connection, schema: str, mart: str) -> Sequence[Edit]:
    """What others wrote into the table of a mart since the last publish, in order."""
    rows: Any = connection.execute(
        sql.SQL(
            "select operation, role, program, edited_at from {} where schema_name = %s and mart = %s"
            " and seen_by_run is null order by edit_id"
        ).format(EDITS),
        [schema, mart],
    ).fetchall()
    return [Edit(*row) for row in rows]


def mark_seen(connection: Connection, schema: str, mart: str, run_id: str) -> None:
    """The edits of a mart up to now are dealt with."""
    connection.execute(
        sql.SQL("update {} set seen_by_run = %s where schema_name = %s and mart = %s and seen_by_run is null").format(
            EDITS
        ),
        [run_id, schema, mart],
    )
