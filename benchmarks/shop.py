"""A generated shop for benches: raw tables of some years of orders, made by DuckDB, and its `dbt build`."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.measure import ROOT, Command, SubjectError

ORDERS_A_DAY = 3_000
COUNT_CUSTOMERS, COUNT_PRODUCTS = 100_000, 1_000
COUNT_LATE, COUNT_CORRECTED = 20, 10
AS_OF = "2026-06-30"
# All of the domain, and what it stands on; the other domains of the project are not built.
_SELECTED = (
    "path:dbt_project/models/staging/ingestion",
    *(f"path:dbt_project/models/{layer}/shop" for layer in ("staging", "intermediate", "marts")),
    "path:dbt_project/seeds/shop",
    "path:dbt_project/tests/shop",
)
_LINEAGE = "_location varchar, _content_hash varchar, _line bigint, _load_id varchar, _loaded_at timestamptz"
_TABLES = {
    "shop__customers": "id varchar, name varchar",
    "shop__products": "sku varchar, name varchar, type varchar, price varchar, description varchar",
    "shop__orders": "id varchar, customer varchar, ordered_at varchar, store_id varchar, subtotal varchar, "
    "tax_paid varchar, order_total varchar",
    "shop__order_items": "id varchar, order_id varchar, sku varchar",
}
# One order of a thousand has no readable subtotal; every customer and product is known.
_ORDERS = """
    select
        'OR-' || lpad(number::varchar, 9, '0') as id,
        'CU-' || lpad((hash(number, 1) % {customers})::varchar, 7, '0') as customer,
        strftime(
            timestamp '2024-01-01 08:00:00' + to_days((day - if(is_late, 1 + hash(number, 6) % 40, 0))::integer)
            + to_seconds((hash(number, 2) % 36000)::integer), '%Y-%m-%dT%H:%M:%S'
        ) as ordered_at,
        'ST-' || (hash(number, 3) % 9)::varchar as store_id,
        if(number % 1000 = 7, 'n/a', subtotal::varchar) as subtotal,
        (subtotal * 6 // 100)::varchar as tax_paid,
        (subtotal + subtotal * 6 // 100)::varchar as order_total,
        day
    from (select *, 300 + hash(number, 4, version) % 9000 as subtotal from ({numbers}))
"""
_ITEMS = """
    select
        'IT-' || lpad((number * 3 + place)::varchar, 10, '0') as id,
        'OR-' || lpad(number::varchar, 9, '0') as order_id,
        'SKU-' || lpad((hash(number, place, 5) % {products})::varchar, 5, '0') as sku,
        day
    from ({numbers}), range(1 + (hash(number, 7) % 3)::integer) as items (place)
    where version = 0
"""


@dataclass(frozen=True)
class Built:
    """What dbt says of a build: seconds of its nodes, of models and seeds and of tests."""

    models_s: float
    tests_s: float

    @property
    def nodes_s(self) -> float:
        """Both."""
        return self.models_s + self.tests_s


def make_raw(warehouse: Path, orders: int) -> None:
    """Raw tables with so many orders, a load a day of them and of their items, one of customers and of products."""
    with duckdb.connect(warehouse) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("create schema raw")
        for table, columns in _TABLES.items():
            connection.execute(f"create table raw.{table} ({columns}, {_LINEAGE})")
        connection.execute(
            "create table raw.loads (load_id varchar, run_id varchar, source varchar, kind varchar, location varchar, "
            "content_hash varchar, start_bytes bigint, records_read bigint, records_loaded bigint, "
            "records_dead_lettered bigint, records_skipped bigint, loaded_at timestamptz, _dlt_load_id varchar)"
        )
        connection.execute("create table raw._dlt_loads (load_id varchar, status bigint)")
        people = f"from range({COUNT_CUSTOMERS}) as made (number)"
        _land(
            connection, "shop__customers",
            f"select 'CU-' || lpad(number::varchar, 7, '0') as id, 'Person ' || number as name, 0 as day {people}",
        )  # fmt: skip
        _land(
            connection, "shop__products",
            "select 'SKU-' || lpad(number::varchar, 5, '0') as sku, 'thing ' || number as name, "
            "'kind ' || number % 20 as type, (100 + number * 7 % 4000)::varchar as price, null as description, "
            f"0 as day from range({COUNT_PRODUCTS}) as made (number)",
        )  # fmt: skip
        _sell(
            connection,
            f"select number, number // {ORDERS_A_DAY} as day, false as is_late, 0 as version "
            f"from range({orders}) as made (number)",
        )


def add_day(warehouse: Path, orders: int) -> None:
    """One day more: a load of its orders, among them late ones of days before and corrected ones, and of its items."""
    day = orders // ORDERS_A_DAY + 1
    with duckdb.connect(warehouse) as connection:
        connection.execute("set TimeZone = 'UTC'")
        _sell(
            connection,
            f"select {orders} + number as number, {day} as day, number < {COUNT_LATE} as is_late, 0 as version "
            f"from range({ORDERS_A_DAY}) as made (number) union all "
            f"select number * {max(1, orders // 40)} + 1, {day}, true, 1 "
            f"from range({COUNT_CORRECTED}) as made (number)",
        )


def _sell(connection: duckdb.DuckDBPyConnection, numbers: str) -> None:
    _land(connection, "shop__orders", _ORDERS.format(numbers=numbers, customers=COUNT_CUSTOMERS))
    _land(connection, "shop__order_items", _ITEMS.format(numbers=numbers, products=COUNT_PRODUCTS))


def _land(connection: duckdb.DuckDBPyConnection, table: str, rows: str) -> None:
    """Rows with a column `day` into a table of raw, one file and load a day."""
    key = _TABLES[table].split()[0]
    load = f"'{table}-' || day"
    connection.execute(
        f"""
        insert into raw.{table} by name
        select
            * exclude day, {load} || '.csv' as _location, {load} as _content_hash, {load} as _load_id,
            row_number() over (partition by day order by {key}) + 1 as _line,
            timestamptz '2024-01-02 00:00:00+00' + to_days(day::integer) as _loaded_at
        from ({rows}) order by day
        """
    )
    connection.execute(
        f"""
        insert into raw.loads by name
        select
            _load_id as load_id, 'run' as run_id, '{table}' as source, 'csv' as kind, any_value(_location) as location,
            any_value(_content_hash) as content_hash, 0 as start_bytes, count(*) as records_read,
            count(*) as records_loaded, 0 as records_dead_lettered, 0 as records_skipped,
            any_value(_loaded_at) as loaded_at, _load_id as _dlt_load_id
        from raw.{table} where _load_id not in (select load_id from raw.loads) group by _load_id
        """
    )
    connection.execute(
        "insert into raw._dlt_loads select load_id, 0 from raw.loads where load_id not in (select load_id from "
        "raw._dlt_loads)"
    )


def dbt(folder: Path, command: str, *arguments: str) -> Command:
    """A command of dbt over the shop; the warehouse and what dbt writes lie in `folder`."""
    variables = ("--vars", json.dumps({"as_of": AS_OF}), "--target-path", str(folder / "target"))
    quiet = ("--quiet", "--log-path", str(folder / "logs"), "--project-dir", str(ROOT), "--profiles-dir", str(ROOT))
    program = str(Path(sys.executable).parent / "dbt")
    return Command((program, command, *variables, *quiet, *arguments), {"PENSTOCK_WAREHOUSE": str(warehouse(folder))})


def dbt_build(folder: Path, *arguments: str) -> Command:
    """`dbt build` of the shop, with its tests."""
    return dbt(folder, "build", "--exclude-resource-type", "unit_test", "--select", *_SELECTED, *arguments)


def warehouse(folder: Path) -> Path:
    """The warehouse of a run."""
    return folder / "warehouse.duckdb"


def read_built(folder: Path) -> Built:
    """What the last build in this folder took. Raises SubjectError if a node failed."""
    results = json.loads((folder / "target" / "run_results.json").read_text())["results"]
    if bad := [one["unique_id"] for one in results if one["status"] not in ("success", "pass")]:
        raise SubjectError(f"dbt: {bad[0]} did not pass")
    tests = sum(one["execution_time"] for one in results if one["unique_id"].startswith("test."))
    return Built(sum(one["execution_time"] for one in results) - tests, tests)


def marts(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Count and checksum of the rows of every mart."""
    with duckdb.connect(warehouse(folder), read_only=True) as connection:
        names = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'marts' order by 1"
        ).fetchall()
        found = {}
        for (name,) in names:
            row = connection.execute(f"select count(*), sum(hash(mart))::varchar from marts.{name} as mart").fetchone()
            assert row is not None
            found[name] = (int(row[0]), int(row[1] or 0))
        return found
