"""The first publish of a mart, beside a COPY of the same rows by the server itself."""

from pathlib import Path

import psycopg

from benchmarks.benches import Context
from benchmarks.marts import Marts
from benchmarks.measure import Command, Subject, expect_rows
from benchmarks.publishes import DATABASE, first_publish, marts, new_database
from benchmarks.subjects import query_postgres, rival_command

TITLE = "The first publish of a mart into Postgres"
ORDER = 7
AGAINST = "copy"


def subjects(context: Context) -> list[Subject]:
    """Penstock, and the server reading a file: the same table, key, constraint and index in one transaction."""
    made, dsn = marts(context, context.rows), context.postgres()
    return [first_publish(made, dsn, "penstock"), _copy(made, dsn)]


def _copy(made: Marts, dsn: str) -> Subject:
    def prepare(_folder: Path) -> Command:
        return rival_command("postgres_copy", str(made.csv), new_database(dsn))

    def check(_folder: Path, _output: str) -> None:
        database = psycopg.conninfo.make_conninfo(dsn, dbname=DATABASE)
        expect_rows(int(query_postgres(database, "select count(*) from employees") or 0), made.rows)

    return Subject(AGAINST, made.rows, prepare, check, "copy from a file that the server reads, then key and indexes")
