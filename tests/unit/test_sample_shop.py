"""The sample data of the shop: the same bytes everywhere, and what expected.json says of them is true."""

import csv
import json
from collections import Counter

from sample_data import shop
from sample_data.shop import SEED
from tests.oracle_shop import read_shop


def test_committed_files_are_what_the_generator_writes() -> None:
    committed = {path.name: path.read_bytes() for path in shop.FOLDER.iterdir()}
    assert committed == dict(shop.generate(SEED))


def test_another_seed_sells_something_else_and_the_same_seed_the_same() -> None:
    assert dict(shop.generate(1)) == dict(shop.generate(1))
    assert dict(shop.generate(1))["orders_2026-01.csv"] != dict(shop.generate(2))["orders_2026-01.csv"]


def test_lines_are_counted_right_and_books_balance() -> None:
    told = json.loads((shop.FOLDER / "expected.json").read_text())
    for name, books in told["files"].items():
        with (shop.FOLDER / name).open(newline="", encoding="utf-8") as opened:
            header, *lines = csv.reader(opened)
        broken = sum(len(line) != len(header) for line in lines)
        assert (books["read"], books["dead_lettered"]) == (len(lines), broken)
        assert books["loaded"] == len(lines) - broken == books["accepted"] + books["duplicate"] + books["rejected"]


def test_an_independent_reading_of_the_rules_comes_to_the_same_outcomes() -> None:
    told = json.loads((shop.FOLDER / "expected.json").read_text())["files"]
    kinds = ("customers", "products", "orders_", "order_items")
    files = {kind.rstrip("_"): sorted(shop.FOLDER.glob(f"{kind}*.csv")) for kind in kinds}
    found = read_shop(files).outcomes
    expected: Counter[tuple[str, str]] = Counter()
    for kind, paths in files.items():
        for path in paths:
            for outcome in ("accepted", "duplicate", "rejected"):
                expected[kind, outcome] += told[path.name][outcome]
    assert found == +expected


def test_every_oddity_that_is_promised_is_there() -> None:
    defects = json.loads((shop.FOLDER / "expected.json").read_text())["defects"]
    assert set(defects) >= {
        "broken_line", "corrected_order", "has_unknown_product", "item_without_order", "late_order", "price_negative",
        "price_unreadable", "renamed_customer", "repeated", "subtotal_is_not_the_sum_of_its_items",
        "subtotal_unreadable", "unknown_customer", "without_items",
    }  # fmt: skip
