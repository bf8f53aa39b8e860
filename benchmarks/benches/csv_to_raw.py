"""A CSV file into the warehouse: Penstock, bare DuckDB, and what others would use."""

from dataclasses import replace
from pathlib import Path

from benchmarks.benches import Context
from benchmarks.data import Dataset
from benchmarks.measure import Command, Subject, expect_rows
from benchmarks.penstock import penstock
from benchmarks.subjects import count_duckdb, duckdb_table, postgres_table, rival_command

TITLE = "A CSV file into the warehouse"
ORDER = 1
AGAINST = "duckdb"

# The slow ones get the first records only, enough for half a minute or less.
DLT_ROWS = 100_000
PANDAS_ROWS = 200_000
PEER_ROWS = 1_000_000


def subjects(context: Context) -> list[Subject]:
    """Penstock, DuckDB with types and as text, dlt from dictionaries; pandas, ingestr and sling into Postgres."""
    whole = context.dataset("csv", context.rows)
    found = [
        penstock(whole),
        duckdb_table(AGAINST, "duckdb_csv", whole, "create table as select * from read_csv(file)"),
        duckdb_table("duckdb, as text", "duckdb_csv_text", whole, "the same with all_varchar, as raw holds it"),
    ]
    if context.wants("dlt"):
        found.append(_dlt(context.dataset("csv", min(context.rows, DLT_ROWS))))
    into_postgres = {"pandas": (PANDAS_ROWS, _pandas), "ingestr": (PEER_ROWS, _ingestr), "sling": (PEER_ROWS, sling)}
    for name, (most_rows, make) in into_postgres.items():
        if not context.wants(name):
            continue
        if name != "pandas" and not context.peers.program(name).exists():
            context.plan.say(f"csv_to_raw: {name} is left out, as it is not installed; --with-peers installs it")
            continue
        found.append(make(context, context.dataset("csv", min(context.rows, most_rows)), context.postgres()))
    return [replace(one, note=f"{one.note}; the first rows only") if one.rows < context.rows else one for one in found]


def _dlt(dataset: Dataset) -> Subject:
    def prepare(folder: Path) -> Command:
        command = rival_command("dlt_dicts", str(dataset.path), str(folder))
        return Command(command.argv, {"DLT_DATA_DIR": str(folder / "dlt")})

    def check(folder: Path, _output: str) -> None:
        expect_rows(count_duckdb(folder / "out.duckdb", "raw.employees"), dataset.loadable)

    return Subject("dlt", dataset.rows, prepare, check, "dictionaries of csv.DictReader into DuckDB")


def _pandas(_context: Context, dataset: Dataset, dsn: str) -> Subject:
    command = rival_command("pandas_postgres", str(dataset.path), dsn, "by_pandas")
    return postgres_table(
        "pandas", "by_pandas", dataset, dsn, command, "read_csv and to_sql into Postgres, its server apart"
    )


def _ingestr(context: Context, dataset: Dataset, dsn: str) -> Subject:
    arguments = ["--source-uri", f"csv://{dataset.path}", "--source-table", "employees", "--dest-uri", dsn]
    arguments += ["--dest-table", "public.by_ingestr", "--yes", "--progress", "log"]
    command = context.peers.command("ingestr", "ingest", *arguments)
    return postgres_table("ingestr", "by_ingestr", dataset, dsn, command, "into Postgres, its server apart")


def sling(context: Context, dataset: Dataset, dsn: str) -> Subject:
    """sling, which makes the table by_sling in Postgres."""
    arguments = ["--src-stream", f"file://{dataset.path}", "--tgt-conn", dsn, "--tgt-object", "public.by_sling"]
    command = context.peers.command("sling", "run", *arguments, "--mode", "full-refresh")
    return postgres_table("sling", "by_sling", dataset, dsn, command, "into Postgres, its server apart")
