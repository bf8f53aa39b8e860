"""Who may do what in the target: one role owns what is published, one reads it; both are made where that is allowed.

Neither can log in. People and programs get a role granted to their own user: `grant penstock_reader to alice`.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from psycopg import errors, sql

from foundation.settings import Roles
from publishing import history, releases
from publishing.target import Connection

# A role belongs to all databases of a server: another publisher may make it at the same moment.
_NOT_ALLOWED = (errors.InsufficientPrivilege, errors.UndefinedObject, errors.DuplicateObject, errors.UniqueViolation)


def act_as_publisher(connection: Connection, roles: Roles, schema: str, marts: Sequence[str]) -> None:
    """Give up, for this transaction, every right but the publisher's, where its role is there or can be made.

    Where that is not allowed the user of the connection goes on with its own rights.
    """
    if roles.publisher is None:
        return
    # All or nothing: what a half-made role could not do would stop the publish later on.
    with suppress(*_NOT_ALLOWED), connection.transaction():
        _make(connection, roles.publisher)
        # Since Postgres 16 who made a role may grant it, but cannot become it without a grant.
        become = "set" if connection.info.server_version >= 160_000 else "member"
        if not _has(connection, "pg_has_role(%s, %s)", roles.publisher, become):
            connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(roles.publisher)))
        _hand_over(connection, roles.publisher, schema, marts)
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(roles.publisher)))


def let_readers_in(connection: Connection, roles: Roles, schema: str, marts: Sequence[str]) -> None:
    """Let the readers' role read the marts, their history and the releases, where it is there or can be made."""
    if roles.reader is None or not _has(connection, "exists (select from pg_roles where rolname = %s)", roles.reader):
        return
    reader = sql.Identifier(roles.reader)
    for name in (schema, history.schema_of(schema), releases.SCHEMA):
        if not _has(connection, "has_schema_privilege(%s, %s, 'usage')", roles.reader, name):
            connection.execute(sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(name), reader))
    tables = [sql.Identifier(schema, mart) for mart in marts]
    tables += [history.table_of(schema, mart) for mart in marts]
    for table in (*tables, releases.RELEASES):
        if not _has(connection, "has_table_privilege(%s, %s, 'select')", roles.reader, table.as_string(connection)):
            connection.execute(sql.SQL("grant select on {} to {}").format(table, reader))


def make_reader(connection: Connection, roles: Roles) -> None:
    """Make the readers' role, where it is missing and this is allowed."""
    if roles.reader is not None:
        with suppress(*_NOT_ALLOWED), connection.transaction():
            _make(connection, roles.reader)


def _make(connection: Connection, role: str) -> None:
    if not _has(connection, "exists (select from pg_roles where rolname = %s)", role):
        connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))


def _hand_over(connection: Connection, publisher: str, schema: str, marts: Sequence[str]) -> None:
    """Everything of Penstock in this database belongs to the publisher; of a schema that is not ours it may add to."""
    role = sql.Identifier(publisher)
    own = (releases.SCHEMA, history.schema_of(schema))
    for name in (*own, schema):
        if not _has(connection, "exists (select from pg_namespace where nspname = %s)", name):
            connection.execute(sql.SQL("create schema {} authorization {}").format(sql.Identifier(name), role))
        elif name in own and not _owns_schema(connection, publisher, name):
            connection.execute(sql.SQL("alter schema {} owner to {}").format(sql.Identifier(name), role))
        elif not _has(connection, "has_schema_privilege(%s, %s, 'create')", publisher, name):
            connection.execute(sql.SQL("grant usage, create on schema {} to {}").format(sql.Identifier(name), role))
    found: Any = connection.execute(
        "select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and not pg_has_role(%(role)s, c.relowner, 'usage')"
        " and (n.nspname = any (%(own)s) or n.nspname = %(schema)s and c.relname = any (%(marts)s))",
        {"role": publisher, "own": list(own), "schema": schema, "marts": list(marts)},
    ).fetchall()
    for table in found:
        connection.execute(sql.SQL("alter table {} owner to {}").format(sql.Identifier(*table), role))
    functions: Any = connection.execute(
        "select p.oid::regprocedure::text from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace"
        " where n.nspname = any (%s) and not pg_has_role(%s, p.proowner, 'usage')",
        [list(own), publisher],
    ).fetchall()
    for (function,) in functions:
        connection.execute(sql.SQL("alter function " + function + " owner to {}").format(role))


def _owns_schema(connection: Connection, role: str, schema: str) -> bool:
    return _has(
        connection,
        "(select pg_has_role(%s, nspowner, 'usage') from pg_namespace where nspname = %s)",
        role,
        schema,
    )


def _has(connection: Connection, condition: str, *values: Any) -> bool:
    row = connection.execute(sql.SQL("select " + condition).format(), values).fetchone()
    return bool(row and row[0])
