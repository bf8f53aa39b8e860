"""`penstock rebuild`: the marts of an earlier run, built anew from raw as it was then, and compared with its books.

They are built beside the warehouse, which is only read: in a DuckDB file, or in another Postgres database where it is
Postgres, because the engines differ in how they spell JSON. What is copied there are the rows of raw that the books of
that run and of those before hold. Where nothing is yet, an incremental model is built whole.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console

from foundation.errors import BooksError, ConfigError, StorageError
from foundation.settings import Settings
from foundation.warehouse import (
    PostgresWarehouse,
    Warehouse,
    hold_warehouse,
    open_warehouse,
    quote_identifier,
    quote_literal,
)
from operations import build
from operations.accounts import tallies
from operations.accounts.books_report import read_books
from operations.commit import git_commit, models_hash
from operations.lock import run_lock
from operations.progress import progress
from operations.showing import plain_table, say
from operations.workers import Worker

FOLDER = "rebuilt"
# Those that were booked at that entry or before. Older versions noted no entry: by the closings of their runs, and of
# runs without closings all.
_LOADS_THEN = """
    create or replace temp table loads_then as
    select load_id from ops.booked_loads
    where entry_number <= $entry or (entry_number is null and (
        run_id in (select run_id from ops.closings where is_balanced and entry_number <= $entry)
        or run_id not in (select run_id from ops.closings)
    ))
"""


def rebuild(
    root: Path, settings: Settings, run_id: str, console: Console, *, into: str | None = None, any_models: bool = False
) -> dict[str, Any]:
    """Build the marts of a run again; of each its rows then and now, and whether they are the same rows.

    `into` is the connection string of an empty database, where the warehouse is Postgres. Raises ConfigError for a run
    whose marts cannot be built here, BooksError where its loads are not those that it had.
    """
    build.require_models(root)
    folder = settings.work_dir / FOLDER
    with run_lock(settings.work_dir, command=f"rebuild --as-of {run_id}"), hold_warehouse(settings.warehouse):
        found = read_books(settings.warehouse, run_id)
        closing = found.get("closing") if found else None
        if closing is None:
            raise ConfigError(
                f"the run {run_id} did not note what its marts were built from",
                where="--as-of",
                fix="name a run that closed its books with this version: penstock status",
            )
        _refuse(root, settings, closing, any_models=any_models)
        file = folder / f"{run_id}.duckdb"
        place = _place(settings, file, into)
        _make_room(file)
        _copy_raw(settings.warehouse, file, closing)
        if isinstance(place, PostgresWarehouse):
            _copy_on(file, place)
            file.unlink()
        log = settings.work_dir / "logs" / "workers.log"
        try:
            with (
                hold_warehouse(place),
                Worker(build.MODULE, root, log) as worker,
                progress(console, settings.progress_update_ms) as emit,
            ):
                switches = json.loads(closing["switches"])
                build.build_into(place, worker, switches, closing["as_of"], emit, target_folder=folder / "target")
        finally:
            shutil.rmtree(folder / "target", ignore_errors=True)
        with open_warehouse(place, read_only=True) as connection:
            now = tallies.mart_rows(connection)
    then = {
        mart["mart"]: tallies.Tally(mart["count_candidates"], int(mart["checksum_candidates"]))
        for mart in found["candidates"]
    }
    return {
        "run_id": run_id,
        "as_of": closing["as_of"],
        "warehouse": str(place),
        "marts": [
            {
                "mart": mart,
                "rows_then": then[mart].count if mart in then else None,
                "rows_now": now[mart].count if mart in now else None,
                "is_equal": then.get(mart) == now.get(mart),
            }
            for mart in sorted({*then, *now})
        ],
    }


def print_rebuild(found: Mapping[str, Any], console: Console) -> None:
    """One line a mart."""
    say(console, f"run {found['run_id']}, as of {found['as_of']}, built anew")
    table = plain_table(["mart"], ("rows then", "rows now"), [""])
    for mart in found["marts"]:
        counts = ("" if count is None else f"{count:,}" for count in (mart["rows_then"], mart["rows_now"]))
        table.add_row(mart["mart"], *counts, "equal" if mart["is_equal"] else "DIFFERS")
    console.print(table)
    say(console, f"marts and raw as they were: {found['warehouse']}")


def require_equal(found: Mapping[str, Any]) -> None:
    """Raises BooksError that names the marts that differ."""
    if differing := [mart["mart"] for mart in found["marts"] if not mart["is_equal"]]:
        raise BooksError(
            f"{', '.join(differing)} of run {found['run_id']} cannot be built again as the books have it",
            where=found["warehouse"],
            fix="compare that file with the warehouse: raw, models or books were changed since, or a model is not the "
            "same twice (random, now(), sums of floating point numbers)",
        )


def _refuse(root: Path, settings: Settings, closing: Mapping[str, Any], *, any_models: bool) -> None:
    run_id = closing["run_id"]
    if not closing["is_balanced"]:
        raise BooksError(f"the books of run {run_id} did not balance", where="--as-of", fix="name a run whose books do")
    if closing["duckdb_version"] != duckdb.__version__:
        raise ConfigError(
            f"the checksums of run {run_id} are those of DuckDB {closing['duckdb_version']}, this is "
            f"{duckdb.__version__}",
            where="--as-of",
            fix=f"install duckdb=={closing['duckdb_version']} in an environment of its own and rebuild there",
        )
    if closing["models_hash"] != models_hash(root) and not any_models:
        then, here = closing["git_commit"] or "no known commit", git_commit(root) or "no known commit"
        raise ConfigError(
            f"run {run_id} was built with the models of {then}, here are other ones, of {here}",
            where="dbt_project/",
            fix=f"check that commit out beside (git worktree add) and rebuild there with WORK_DIR={settings.work_dir}; "
            "or say --any-models, to see what these models make of it",
        )


def _place(settings: Settings, file: Path, into: str | None) -> Warehouse:
    """Where to build: with the engine of the warehouse."""
    if not isinstance(settings.warehouse, PostgresWarehouse):
        return file
    if into is None:
        raise ConfigError(
            "the warehouse is Postgres, and so must be the place where its marts are built again",
            where="REBUILD_URL",
            fix="set it to an empty database, postgresql://user:password@host/database",
        )
    return PostgresWarehouse(into, settings.temporary)


def _make_room(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in (file, file.with_name(f"{file.name}.wal")):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(file), fix="see work_dir") from error


def see_loads_then(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, closing: Mapping[str, Any]) -> None:
    """Make the table `loads_then` of the loads that were booked at a closing. Raises BooksError for other ones."""
    connection.execute(_LOADS_THEN, {"entry": closing["entry_number"]})
    row = connection.execute("select count(*), sum(hash(load_id)) from loads_then").fetchone()
    if row is None or (row[0], str(row[1] or 0)) != (closing["count_loads"], closing["checksum_loads"]):
        raise BooksError(
            f"ops.booked_loads does not hold the {closing['count_loads']:,} loads that run {closing['run_id']} had",
            where=str(warehouse),
            fix="compare with a backup of the warehouse",
        )


def _copy_raw(warehouse: Warehouse, file: Path, closing: Mapping[str, Any]) -> None:
    """The rows of raw that came with the loads of the books up to a closing, as a new warehouse file."""
    with open_warehouse(file):
        pass  # made in the format of every warehouse file
    with open_warehouse(warehouse) as connection:
        see_loads_then(connection, warehouse, closing)
        tables = connection.execute(
            """
            select table_name, list(column_name) from information_schema.columns
            where table_catalog = current_database() and table_schema = 'raw' group by table_name
            """
        ).fetchall()
        connection.execute(f"attach {quote_literal(str(file))} as rebuilt")
        connection.execute("create schema rebuilt.raw")
        for table, columns in tables:
            name = quote_identifier(table)
            load = "load_id" if table in ("loads", "dead_letters") else "_load_id"
            kept = f"where {load} in (select load_id from loads_then)" if load in columns else ""
            connection.execute(f"create table rebuilt.raw.{name} as select * from raw.{name} {kept}")
        connection.execute("detach rebuilt")


def _copy_on(file: Path, place: PostgresWarehouse) -> None:
    """The copy of raw into an empty database."""
    with hold_warehouse(place), open_warehouse(place) as connection:
        connection.execute(f"attach {quote_literal(str(file))} as copied (read_only)")
        tables: dict[str, list[str]] = {"copied": [], "here": []}
        for catalog, table in connection.execute(
            "select if(table_catalog = 'copied', 'copied', 'here'), table_name from information_schema.tables "
            "where table_catalog in ('copied', current_database()) and table_schema in ('raw', 'marts', 'ops')"
        ).fetchall():
            tables[catalog].append(table)
        if tables["here"]:
            raise ConfigError(
                f"the database holds something already, {tables['here'][0]} for one",
                where=f"REBUILD_URL, {place}",
                fix="create an empty one; nothing in it was changed",
            )
        connection.execute("create schema if not exists raw")
        for name in map(quote_identifier, tables["copied"]):
            connection.execute(f"create table raw.{name} as select * from copied.raw.{name}")
