"""What benches share: rivals as subjects, and looking into the databases that they fill."""

import sys
from pathlib import Path

import duckdb

from benchmarks.data import Dataset
from benchmarks.measure import Command, Subject, SubjectError, expect_rows


def rival_command(*arguments: str) -> Command:
    """A function of benchmarks.rivals as a process."""
    return Command((sys.executable, "-m", "benchmarks.rivals", *arguments))


def duckdb_table(name: str, rival: str, dataset: Dataset, note: str) -> Subject:
    """A rival that makes the table employees in a DuckDB file from a dataset."""

    def prepare(folder: Path) -> Command:
        return rival_command(rival, str(dataset.path), str(folder / "out.duckdb"))

    def check(folder: Path, _output: str) -> None:
        expect_rows(count_duckdb(folder / "out.duckdb", "employees"), dataset.loadable)

    return Subject(name, dataset.rows, prepare, check, note)


def postgres_table(name: str, table: str, dataset: Dataset, dsn: str, command: Command, note: str) -> Subject:
    """A command that makes a table of a dataset in Postgres, where there is none when it starts."""

    def prepare(_folder: Path) -> Command:
        query_postgres(dsn, f"drop table if exists {table}")
        query_postgres(dsn, "checkpoint")
        return command

    def check(_folder: Path, _output: str) -> None:
        expect_rows(int(query_postgres(dsn, f"select count(*) from {table}") or 0), dataset.rows)

    return Subject(name, dataset.rows, prepare, check, note)


def query_postgres(dsn: str, query: str) -> int | None:
    """The first value that a query gives, if it gives any. Raises SubjectError."""
    import psycopg

    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            row = cursor.fetchone() if cursor.description else None
    except psycopg.Error as error:
        raise SubjectError(f"Postgres does not tell: {error}") from None
    return row[0] if row else None


def count_duckdb(file: Path, table: str) -> int:
    """Rows of a table in a DuckDB file. Raises SubjectError when it is not there."""
    try:
        with duckdb.connect(file, read_only=True) as connection:
            row = connection.execute(f"select count(*) from {table}").fetchone()
    except duckdb.Error as error:
        raise SubjectError(f"{table} is not there: {error}") from None
    assert row is not None
    return int(row[0])
