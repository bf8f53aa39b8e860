"""The rows that releases have replaced: kept for as long as their release is, so that any of them can be read again.

A row of a mart bears in `updated_at` the time of the release that made it. A replaced one lies in the schema
`<schema>_history`, with the release that replaced it.
"""

from collections.abc import Iterable, Mapping

from psycopg import sql

from publishing.releases import RELEASES
from publishing.target import Connection, ensure_schema, fit_name

UNTIL = "until_release"
TIMES = ("created_at", "updated_at")


def schema_of(schema: str) -> str:
    """The schema that holds the replaced rows of the marts in `schema`."""
    return fit_name(schema, "history")


def table_of(schema: str, mart: str) -> sql.Identifier:
    """The table of the replaced rows of a mart."""
    return sql.Identifier(schema_of(schema), mart)


def as_of(schema: str, mart: str) -> sql.Identifier:
    """The function that gives a mart as it was in a release."""
    return sql.Identifier(schema_of(schema), fit_name(mart, "as_of"))


def ensure(connection: Connection, schema: str, mart: str, types: Mapping[str, str]) -> None:
    """Make or widen the table of replaced rows for a mart whose columns have these types, and its function."""
    ensure_schema(connection, schema_of(schema))
    table = table_of(schema, mart)
    there: dict[str, str] = dict(
        connection.execute(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
            [table.as_string(connection)],
        ).fetchall()
    )
    wanted = dict(types) | dict.fromkeys(TIMES, "timestamp with time zone")
    if not there:
        columns = [sql.SQL("{} " + kind).format(sql.Identifier(name)) for name, kind in wanted.items()]
        connection.execute(
            sql.SQL("create table {} ({}, {} bigint not null)").format(
                table, sql.SQL(", ").join(columns), sql.Identifier(UNTIL)
            )
        )
        connection.execute(sql.SQL("create index on {} ({})").format(table, sql.Identifier(UNTIL)))
    else:
        for name, kind in wanted.items():
            clause = "add column {} " if name not in there else "alter column {} type "
            if there.get(name) != kind:
                connection.execute(sql.SQL("alter table {} " + clause + kind).format(table, sql.Identifier(name)))
        if {name: there.get(name) for name in wanted} == wanted:
            return
    _make_function(connection, schema, mart, wanted)


def _make_function(connection: Connection, schema: str, mart: str, types: Mapping[str, str]) -> None:
    """A function with a result of its own, not the row type of the mart, so that it never stands in a change's way."""
    function = as_of(schema, mart)
    connection.execute(sql.SQL("drop function if exists {} (bigint)").format(function))
    names = sql.SQL(", ").join(sql.Identifier(name) for name in types)
    body = sql.SQL(
        "#variable_conflict use_column\n"
        "declare penstock_moment timestamptz;\n"
        "begin\n"
        "  select published_at into penstock_moment from {releases}\n"
        "    where release_id = penstock_release and schema_name = {schema} and is_retained;\n"
        "  if penstock_moment is null then\n"
        "    raise exception 'release % is not retained', penstock_release\n"
        "      using hint = 'penstock releases lists those that are';\n"
        "  end if;\n"
        "  return query select {names} from {live} where updated_at <= penstock_moment\n"
        "    union all select {names} from {replaced}\n"
        "      where updated_at <= penstock_moment and {until} > penstock_release;\n"
        "end"
    ).format(
        releases=RELEASES,
        schema=sql.Literal(schema),
        names=names,
        live=sql.Identifier(schema, mart),
        replaced=table_of(schema, mart),
        until=sql.Identifier(UNTIL),
    )
    columns = [sql.SQL("{} " + kind).format(sql.Identifier(name)) for name, kind in types.items()]
    connection.execute(
        sql.SQL("create function {} (penstock_release bigint) returns table ({}) language plpgsql stable as {}").format(
            function, sql.SQL(", ").join(columns), sql.Literal(body.as_string(connection))
        )
    )


def prune(connection: Connection, schema: str, marts: Iterable[str], oldest: int) -> None:
    """Remove the rows that only releases before `oldest` showed."""
    for mart in marts:
        connection.execute(
            sql.SQL("delete from {} where {} <= %s").format(table_of(schema, mart), sql.Identifier(UNTIL)), [oldest]
        )
