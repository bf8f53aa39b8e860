"""A day more in a shop of 2 million orders: what an incremental build costs beside a full one."""

import shutil
from pathlib import Path

from benchmarks.benches import Context
from benchmarks.measure import Command, Subject, SubjectError, Told, run_command
from benchmarks.shop import ORDERS_A_DAY, add_day, dbt, dbt_build, make_raw, marts, read_built, warehouse

TITLE = "One day more in a shop, through dbt"
ORDER = 13
AGAINST = "full build"
LARGEST = 2_000_000


def subjects(context: Context) -> list[Subject]:
    """A full build of all orders with the day, and one that has all but the day; they have to give the same marts."""
    orders = min(context.rows, LARGEST)
    base = context.plan.folder / "shop"
    made: dict[str, object] = {}

    def raw(folder: Path) -> Path:
        """The project's folder of a run: parsed by dbt, and a warehouse with raw alone or built."""
        if not base.exists():
            base.mkdir(parents=True)
            context.plan.say(f"data: a shop of {orders:,} orders")
            make_raw(warehouse(base), orders)
            shutil.copy(warehouse(base), base / "raw.duckdb")
            run_command(dbt_build(base), base, context.plan.time_limit)
        shutil.copytree(base / "target", folder / "target")
        run_command(dbt(folder, "parse"), folder, context.plan.time_limit)
        return base

    def prepare_full(folder: Path) -> Command:
        shutil.copy(raw(folder) / "raw.duckdb", warehouse(folder))
        add_day(warehouse(folder), orders)
        return dbt_build(folder)

    def prepare_day(folder: Path) -> Command:
        shutil.copy(warehouse(raw(folder)), warehouse(folder))
        add_day(warehouse(folder), orders)
        return dbt_build(folder)

    def check_full(folder: Path, _output: str) -> Told:
        made["marts"] = marts(folder)
        return _told(folder)

    def check_day(folder: Path, _output: str) -> Told:
        if marts(folder) != made.get("marts"):
            raise SubjectError("the marts are not those of the full build")
        return _told(folder)

    return [
        Subject(AGAINST, orders + ORDERS_A_DAY, prepare_full, check_full, "own_s are the seconds of dbt's nodes"),
        Subject("one day", ORDERS_A_DAY, prepare_day, check_day, "time_ratio compares the whole commands"),
    ]


def _told(folder: Path) -> Told:
    built = read_built(folder)
    return Told(built.nodes_s, f"models {built.models_s:.1f} s, tests {built.tests_s:.1f} s")
