"""The shop from its files to its marts: against plain Python, built in days and built at once, on both engines."""

import json
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from foundation.warehouse import PostgresWarehouse, open_warehouse
from tests.conftest import NO_TARGET, ROOT, Project, copy_tree, create_database
from tests.integration.test_postgres_warehouse import url_of
from tests.oracle_shop import marts, read_shop

REAL = ROOT.parent / "shared" / "data" / "customers" / "jafgen"
AS_OF = "2026-04-01"
UNTESTED = ("--exclude-resource-type", "test")
MARTS = ("customer_metrics", "product_catalogue", "revenue_by_category", "revenue_by_day", "revenue_by_product")
WITH_PLACES = ("outcomes_shop", "rejected_shop")


@dataclass
class Shop:
    """A project with this domain alone."""

    root: Path
    dsn: str = NO_TARGET

    @property
    def files(self) -> Path:
        """The folder of its sources."""
        return self.root / "sample_data" / "shop"

    def ingest(self) -> None:
        """Read what is new."""
        done = Project(self.root, self.dsn).run("ingest")
        assert done.returncode == 0, done.stdout + done.stderr

    def build(self, *arguments: str) -> None:
        """`dbt build` without unit tests."""
        command = ["build", "--exclude-resource-type", "unit_test", "--vars", json.dumps({"as_of": AS_OF}), *arguments]
        done = subprocess.run(
            [str(Path(sys.executable).parent / "dbt"), *command],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the warehouse."""
        with duckdb.connect(str(self.root / ".penstock" / "warehouse.duckdb"), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.execute(query).fetchall()

    def marts(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every mart."""
        return {mart: self.rows(f"select * from marts.{mart} order by all") for mart in MARTS + WITH_PLACES}

    def built_anew(self) -> dict[str, list[tuple[Any, ...]]]:
        """The marts of a full refresh; those that are here stay."""
        anew = Shop(self.root.with_name(f"anew {uuid.uuid4().hex}"))
        shutil.copytree(self.root, anew.root)
        anew.build("--full-refresh", *UNTESTED)
        return anew.marts()

    def add_file(self, name: str, *lines: str) -> None:
        """A new file, with the header of its sisters."""
        header = next(self.files.glob(f"{name.rpartition('_')[0] or name}*.csv")).read_text().splitlines()[0]
        (self.files / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")

    def oracle(self) -> dict[str, list[tuple[Any, ...]]]:
        """The marts in plain Python over the files as they lie there."""
        files = {
            "customers": sorted(self.files.glob("customers*.csv")),
            "products": sorted(self.files.glob("products*.csv")),
            "orders": sorted(self.files.glob("orders_*.csv")),
            "order_items": sorted(self.files.glob("order_items_*.csv")),
        }
        return marts(read_shop(files), date.fromisoformat(AS_OF))


def of_marts(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    """The marts in the order of the oracle."""
    return {mart: shop.rows(f"select * from marts.{mart} order by {_key(mart)}") for mart in MARTS}


def _key(mart: str) -> str:
    return {"revenue_by_day": "ordered_on", "revenue_by_category": "category", "customer_metrics": "customer_id"}.get(
        mart, "sku"
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The sample data ingested and built; for looking only."""
    shop = Shop(copy_tree(tmp_path_factory.mktemp("shop") / "pen stock", domains=("shop",)))
    shop.ingest()
    shop.build()
    return shop


@pytest.fixture
def shop(first: Shop, tmp_path: Path) -> Shop:
    """The same, for a test of its own."""
    shutil.copytree(first.root, tmp_path / "pen stock")
    return Shop(tmp_path / "pen stock")


def test_every_mart_value_is_what_plain_python_finds(first: Shop) -> None:
    assert of_marts(first) == first.oracle()
    assert len(first.rows("select * from marts.customer_metrics")) == 301


def test_outcomes_and_broken_rules_are_those_that_were_put_into_the_files(first: Shop) -> None:
    told = json.loads((first.files / "expected.json").read_text())
    found = first.rows("select outcome, count(*) from marts.outcomes_shop group by all")
    assert dict(found) == {name: told["totals"][name] for name in ("accepted", "duplicate", "rejected")}
    rules = first.rows(
        "select rule, count(*) from (select unnest(failed_rules) as rule from marts.rejected_shop) group by all"
    )
    assert dict(rules) == told["rules"]


def test_the_metrics_of_customers_wait_for_no_product(first: Shop) -> None:
    nodes = json.loads((first.root / "target" / "manifest.json").read_text())
    above, left = set(), ["model.penstock.customer_metrics"]
    while left:
        parents = nodes["parent_map"][left.pop()]
        left += [parent for parent in parents if parent not in above]
        above |= set(parents)
    assert "source.penstock.raw.shop__orders" in above
    assert "source.penstock.raw.shop__customers" in above
    assert not [name for name in above if "product" in name or "order_items" in name]


def _new_day(shop: Shop) -> None:
    shop.add_file("orders_2026-04-01", "NEW-1,CU-0001,2026-04-01T09:00:00,ST-1,600,36,636")
    shop.add_file("order_items_2026-04-01", "NEW-1,NEW-1,SKU-001", "NEW-2,NEW-1,SKU-001")


def _late_order(shop: Shop) -> None:
    shop.add_file("orders_2026-04-02", "LATE-1,CU-0290,2026-01-29T09:00:00,ST-1,300,18,318")
    shop.add_file("order_items_2026-04-02", "LATE-1,LATE-1,SKU-001")


def _corrected_order(shop: Shop) -> None:
    # Another customer, another day, another amount; one item is another product, the rest stay.
    shop.add_file("orders_2026-04-03", "OR-00001,CU-0298,2026-02-27T09:00:00,ST-1,500,30,530")
    shop.add_file("order_items_2026-04-03", "IT-000001,OR-00001,SKU-002")


def _correction_that_breaks_a_rule(shop: Shop) -> None:
    shop.add_file("orders_2026-04-04", "OR-00002,CU-0298,2026-02-27T09:00:00,ST-1,five,30,530")


def _customer_and_products_that_arrive_later(shop: Shop) -> None:
    shop.add_file("customers_late", "CU-9901,Late Comer")
    shop.add_file("products_late", "SKU-999,late tea,tea,777,", "SKU-001,dearer tea,coffee,350,")


def _items_before_their_order(shop: Shop) -> None:
    shop.add_file("order_items_2026-04-05", "EARLY-1,EARLY-1,SKU-003")
    shop.ingest()
    shop.build(*UNTESTED)
    shop.add_file("orders_2026-04-06", "EARLY-1,CU-0001,2026-03-30T09:00:00,ST-1,300,18,318")


def _file_replaced(shop: Shop) -> None:
    # The newer version lacks the first hundred orders and has another amount in the last one.
    path = shop.files / "orders_2026-02.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines[100:], "REPLACED,CU-0005,2026-02-03T09:00:00,ST-1,100,6,106"]) + "\n")


def _file_that_grew(shop: Shop) -> None:
    with (shop.files / "orders_2026-03.csv").open("a") as opened:
        opened.write("GREW-1,CU-0003,2026-03-31T09:00:00,ST-1,100,6,106\n")


CHANGES = (
    _new_day, _late_order, _corrected_order, _correction_that_breaks_a_rule, _customer_and_products_that_arrive_later,
    _items_before_their_order, _file_that_grew, _file_replaced,
)  # fmt: skip


def test_after_each_change_the_marts_are_those_of_a_full_refresh(shop: Shop) -> None:
    for change in CHANGES:
        change(shop)
        shop.ingest()
        shop.build(*UNTESTED)
        assert shop.marts() == shop.built_anew(), change.__name__
        if change is _customer_and_products_that_arrive_later:
            # up to here later files count more, as for the oracle, and no record was withdrawn or broken
            assert of_marts(shop) == shop.oracle()
    shop.build()


def test_a_file_that_goes_on_under_another_name_keeps_its_records(shop: Shop) -> None:
    def accepted() -> int:
        ((count,),) = shop.rows("select count(*) from intermediate.int_shop__orders where outcome = 'accepted'")
        return int(count)

    before = accepted()
    path = shop.files / "orders_2026-02.csv"
    header = path.read_text().splitlines()[0]
    archive = path.rename(path.with_stem("orders_2026-02-archived"))
    path.write_text(f"{header}\nMOVED,CU-0005,2026-02-03T09:00:00,ST-1,100,6,106\n")
    shop.ingest()
    shop.build(*UNTESTED)
    assert accepted() == before + 1
    archive.write_text(f"{header}\nREPLACED,CU-0005,2026-02-03T09:00:00,ST-1,100,6,106\n")
    shop.ingest()
    shop.build(*UNTESTED)
    assert 0 < accepted() < before, "the content that no file holds any more has gone"
    assert shop.marts() == shop.built_anew()


def test_a_new_day_touches_its_orders_days_and_customers_alone(shop: Shop) -> None:
    _new_day(shop)
    _late_order(shop)
    shop.ingest()
    shop.build()

    def written(model: str, column: str) -> list[Any]:
        newest = f"(select max(changed_at) from intermediate.{model})"
        rows = shop.rows(f"select distinct {column} from intermediate.{model} where changed_at = {newest} order by 1")
        return [value for (value,) in rows]

    assert written("int_shop__orders", "order_id") == ["LATE-1", "NEW-1"]
    assert written("int_shop__order_items", "item_id") == ["LATE-1", "NEW-1", "NEW-2"]
    assert written("int_shop__orders_by_customer", "customer_id") == ["CU-0001", "CU-0290"]
    assert written("int_shop__orders_by_day", "ordered_on") == [date(2026, 1, 29), date(2026, 4, 1)]


@pytest.mark.parametrize(
    "dropped",
    [
        "table marts.revenue_by_day",
        "table intermediate.int_shop__orders_by_day",
        "table intermediate.int_shop__orders",
    ],
)
def test_a_table_that_was_dropped_comes_back_as_it_was(shop: Shop, dropped: str) -> None:
    before = shop.marts()
    with duckdb.connect(str(shop.root / ".penstock" / "warehouse.duckdb")) as connection:
        connection.execute(f"drop {dropped}")
    _new_day(shop)
    shop.ingest()
    shop.build(*UNTESTED)
    assert shop.marts() == shop.built_anew() != before


def test_a_load_that_a_crash_repeated_counts_once(shop: Shop) -> None:
    before = shop.marts()
    with duckdb.connect(str(shop.root / ".penstock" / "warehouse.duckdb")) as connection:
        # the rows of a load twice; and once more under a load of its own
        connection.execute(
            "insert into raw.shop__orders select * from raw.shop__orders where _location like '%2026-02%'"
        )
        connection.execute(
            "insert into raw.shop__order_items by name select * replace (_load_id || '-again' as _load_id) "
            "from raw.shop__order_items where _location like '%2026-02%'"
        )
        connection.execute(
            "insert into raw.loads by name select * replace (load_id || '-again' as load_id) from raw.loads "
            "where location like '%order_items_2026-02%'"
        )
    shop.build()
    built = {mart: rows for mart, rows in shop.marts().items() if mart not in WITH_PLACES}
    assert built == {mart: rows for mart, rows in before.items() if mart not in WITH_PLACES}
    assert shop.marts() == shop.built_anew()


def test_other_rules_judge_everything_anew(shop: Shop) -> None:
    model = shop.root / "dbt_project" / "models" / "intermediate" / "shop" / "int_shop__orders.sql"
    text = model.read_text().replace("_usd < 0 then", "_usd < 5 then")
    assert text != model.read_text()
    model.write_text(text)
    settings = shop.root / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("shop_rules_version: 1", "shop_rules_version: 2"))
    before = shop.marts()
    shop.build()
    built = shop.marts()
    assert len(built["rejected_shop"]) > len(before["rejected_shop"])
    assert built == shop.built_anew()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files of the generator of shops are not on this machine")
def test_the_files_of_another_shop_add_up_to_the_cent(tmp_path: Path) -> None:
    shop = Shop(copy_tree(tmp_path / "pen stock", domains=("shop",)))
    shutil.rmtree(shop.files)
    shop.files.mkdir()
    for path in REAL.glob("raw_*.csv"):
        name = path.name.removeprefix("raw_").replace("items", "order_items")
        if name.startswith(("customers", "orders", "order_items", "products")):
            shutil.copy(path, shop.files / name)
    shop.ingest()
    shop.build()
    assert of_marts(shop) == shop.oracle()
    orders, cents, items, unknown, empty = shop.rows(
        "select sum(count_orders), cast(sum(revenue_usd) * 100 as bigint), sum(count_items), "
        "sum(count_items_of_unknown_products), sum(count_orders_without_items) from marts.revenue_by_day"
    )[0]
    assert (orders, cents, items, unknown, empty) == (14_269, 16_149_226, 21_207, 0, 137)
    assert shop.rows("select * from marts.customer_metrics where not is_known") == []
    assert shop.rows("select count(*) from marts.customer_metrics where segment = 'prospect'") == [(622,)]
    assert shop.rows("select sum(abs(subtotal_gap_usd)) from marts.revenue_by_day") == [(0,)]


def _run(project: Project, **environment: str) -> None:
    done = project.run("run", **environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_publishes_the_shop_a_replay_heals_it_and_a_rebuild_finds_the_same_rows(
    tmp_path: Path, postgres: str
) -> None:
    project = Project(copy_tree(tmp_path / "pen stock", domains=("shop",)), create_database(postgres))
    shop = Shop(project.root, project.dsn)
    _run(project)
    first_run = project.summary["run_id"]
    marts = {book["mart"]: book for book in json.loads(project.run("books", "--json").stdout)["candidates"]}
    customers, products = marts["customer_metrics"], marts["product_catalogue"]
    assert (customers["count_accepted"], customers["count_unknown"], customers["count_candidates"]) == (300, 1, 301)
    assert (products["count_accepted"], products["count_unknown"], products["count_candidates"]) == (38, 0, 38)
    before = project.query("select sum(revenue_usd), sum(count_orders) from revenue_by_day")[0]
    done = project.run("deadletters", "export", "--reason", "subtotal_unreadable", "--to", "letters.ndjson")
    assert done.returncode == 0, done.stdout + done.stderr
    letters = [json.loads(line) for line in (project.root / "letters.ndjson").read_text().splitlines()]
    letter = next(each for each in letters if "12,50" in str(each["record"]))
    record = json.loads(letter["record"]) | {"subtotal": "1000", "tax_paid": "60", "order_total": "1060"}
    (project.root / "fixed.ndjson").write_text(
        json.dumps({"letter_id": letter["letter_id"], "record": json.dumps(record)}) + "\n"
    )
    done = project.run("replay", "fixed.ndjson")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.summary["is_balanced"]
    revenue, orders = project.query("select sum(revenue_usd), sum(count_orders) from revenue_by_day")[0]
    assert (float(revenue - before[0]), orders - before[1]) == (10.6, 1)
    _new_day(shop)
    _file_replaced(shop)
    _run(project)
    assert project.summary["is_balanced"]
    for run_id in (first_run, project.summary["run_id"]):
        done = project.run("rebuild", "--as-of", run_id)
        assert done.returncode == 0, done.stdout + done.stderr


def test_both_engines_build_the_same_marts_whole_and_day_by_day(tmp_path: Path, postgres: str) -> None:
    projects, warehouse = [], PostgresWarehouse(url_of(create_database(postgres)))
    for name, environment in (("duckdb", {}), ("postgres", {"WAREHOUSE_URL": warehouse.url})):
        project = Project(copy_tree(tmp_path / name, domains=("shop",)), create_database(postgres))
        _run(project, **environment)
        for change in (_new_day, _corrected_order, _customer_and_products_that_arrive_later):
            change(Shop(project.root))
        _run(project, **environment)
        projects.append(project)
    columns = "* exclude (load_id, run_id, loaded_at)"
    with open_warehouse(warehouse, read_only=True) as connection:
        on_postgres = {mart: connection.execute(_all(mart, columns)).fetchall() for mart in MARTS + WITH_PLACES}
    on_duckdb = {mart: Shop(projects[0].root).rows(_all(mart, columns)) for mart in MARTS + WITH_PLACES}
    assert on_postgres == on_duckdb
    assert [len(rows) > 0 for rows in on_duckdb.values()] == [True] * 7


def _all(mart: str, without_places: str) -> str:
    return f"select {without_places if mart in WITH_PLACES else '*'} from marts.{mart} order by all"
