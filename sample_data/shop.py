"""The sample data of the shop: customers, products, and three months of orders and their items, as CSV files.

Money is in whole cents. An item has no price of its own; the subtotal of an order is the sum of its products' prices.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sample_data.malformed import csv_line
from sample_data.people import Dice

FOLDER = Path(__file__).parent / "shop"
MONTHS = ("2026-01", "2026-02", "2026-03")
COUNT_CUSTOMERS, COUNT_PRODUCTS, ORDERS_A_MONTH = 300, 40, 830
COLUMNS = {
    "customers": ("id", "name"),
    "products": ("sku", "name", "type", "price", "description"),
    "orders": ("id", "customer", "ordered_at", "store_id", "subtotal", "tax_paid", "order_total"),
    "order_items": ("id", "order_id", "sku"),
}
TAX_PERCENT = 6
SEED = 2026

_FIRST = ("Ada", "Ben", "Cleo", "Dina", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kit", "Lena", "Milo", "Nora")
_LAST = ("Abel", "Brook", "Carver", "Dale", "Ekman", "Frost", "Garcia", "Holm", "Iwata", "Jansen", "O'Neil", "Zöllner")
_TYPES = {
    "tea": ("green tea", "black tea", "mint tea", "rooibos"),
    "coffee": ("house blend", "espresso", "decaf", "light roast"),
    "ware": ("cup", "teapot", "kettle", "tray"),
    "sweets": ("shortbread", "fudge", "nougat, dark", '"extra" ginger'),
}
_STORES = ("ST-1", "ST-2")


@dataclass
class _Line:
    values: tuple[Any, ...]
    outcome: str = "accepted"
    rules: tuple[str, ...] = ()
    defect: str = ""

    @property
    def text(self) -> str:
        return csv_line(self.values)


@dataclass
class _Shop:
    dice: Dice
    prices: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[_Line]] = field(default_factory=dict)
    count_items: int = 0

    def add(self, file: str, *values: Any, outcome: str = "accepted", rules: str = "", defect: str = "") -> None:
        if rules:
            outcome = "rejected"
        broken = tuple(sorted(rules.split(","))) if rules else ()
        self.lines.setdefault(file, []).append(_Line(values, outcome, broken, defect))

    def customers(self) -> None:
        for number in range(1, COUNT_CUSTOMERS + 1):
            name = f"{self.dice.pick(_FIRST)} {self.dice.pick(_LAST)}"
            self.add("customers.csv", f"CU-{number:04}", name)
        self.lines["customers.csv"][6].outcome = "duplicate"
        self.add("customers.csv", "CU-0007", "Nora Married", defect="renamed_customer")
        self.add("customers.csv", "", "Ben Nobody", rules="customer_id_missing", defect="no_id")
        self.add("customers.csv", "CU-9001", "  ", rules="customer_name_missing", defect="no_name")
        self.add("customers.csv", "CU-9002", outcome="dead_lettered", defect="broken_line")

    def products(self) -> None:
        kinds = list(_TYPES)
        for number in range(1, COUNT_PRODUCTS + 1):
            sku, kind = f"SKU-{number:03}", kinds[number % len(kinds)]
            name = f"{self.dice.pick(_TYPES[kind])} no. {number}"
            price = 50 * self.dice.between(3, 60) - (1 if number % 3 == 0 else 0)
            if number in (39, 40):
                text, rule = {39: ("12,50", "price_unreadable"), 40: ("-400", "price_negative")}[number]
                self.add("products.csv", sku, name, kind, text, None, rules=rule, defect=rule)
            else:
                self.add("products.csv", sku, name, kind, str(price), None if number % 5 else f"Our {name}")
                self.prices[sku] = price

    def order(
        self, month: str, number: int, *, file_month: str = "", customer: str = "", day: int = 0, **odd: Any
    ) -> tuple[str, ...]:
        """Put an order and its items into the files; `odd` says what is wrong with it."""
        dice, file_month = self.dice, file_month or month
        order_id, skus = f"OR-{number:05}", list(self.prices)
        bought = [dice.pick(skus) for _ in range(0 if odd.get("is_empty") else dice.weigh([(5, 1), (3, 2), (2, 3)]))]
        subtotal = sum(self.prices[sku] for sku in bought) + odd.get("gap", 0)
        bought += odd.get("more_skus", [])
        tax = subtotal * TAX_PERCENT // 100
        day = day or dice.between(1, 28)
        moment = f"{month}-{day:02}T{dice.between(7, 19):02}:{dice.below(60):02}:{dice.below(60):02}"
        # Some customers come often, many seldom, and the last thirty never.
        customer = customer or f"CU-{1 + dice.below(1 + dice.below(COUNT_CUSTOMERS - 30)):04}"
        values = (order_id, customer, moment, dice.pick(_STORES), str(subtotal), str(tax), str(subtotal + tax))
        changed = {COLUMNS["orders"].index(name): text for name, text in odd.get("values", {}).items()}
        values = tuple(changed.get(place, value) for place, value in enumerate(values))
        self.add(
            f"orders_{file_month}.csv", *values, outcome=odd.get("outcome", "accepted"), rules=odd.get("rules", ""),
            defect=odd.get("defect", ""),
        )  # fmt: skip
        for sku in bought:
            self.item(file_month, order_id, sku, defect="unknown_product" if sku not in self.prices else "")
        return values

    def item(self, month: str, order_id: str, sku: str, **told: str) -> None:
        self.count_items += 1
        self.add(f"order_items_{month}.csv", f"IT-{self.count_items:06}", order_id, sku, **told)

    def months(self) -> None:
        number = 0
        for month in MONTHS:
            for _ in range(ORDERS_A_MONTH):
                number += 1
                self.order(month, number)
            for odd in _odd_orders():
                number += 1
                self.order(month, number, **odd)
            self.item(month, f"OR-8{number:04}", "SKU-001", defect="item_without_order")
            self.add(
                f"order_items_{month}.csv", "", f"OR-{number:05}", "SKU-002", rules="item_id_missing", defect="no_id"
            )
            self.add(
                f"order_items_{month}.csv", f"IT-8{number:05}", f"OR-{number:05}", None, rules="sku_missing",
                defect="no_sku",
            )  # fmt: skip
            self.repeat(f"orders_{month}.csv", 10)
            self.repeat(f"order_items_{month}.csv", 20)
            self.add(
                f"orders_{month}.csv", f"OR-9{number:04}", "CU-0001", outcome="dead_lettered", defect="broken_line"
            )
            self.add(f"order_items_{month}.csv", f"IT-9{number:05}", outcome="dead_lettered", defect="broken_line")
        for later in MONTHS[1:]:
            self.correct("2026-01", later)
            number += 1
            self.order("2026-01", number, file_month=later, day=30, defect="late_order")

    def repeat(self, file: str, place: int) -> None:
        first = self.lines[file][place]
        self.add(file, *first.values, defect="repeated")
        first.outcome = "duplicate"

    def correct(self, month: str, later: str) -> None:
        """Two orders of a month again in a later file: one paid more, one was of another customer and day."""
        found = [line for line in self.lines[f"orders_{month}.csv"] if line.outcome == "accepted" and not line.defect]
        for line, has_moved in ((self.dice.pick(found[:400]), False), (self.dice.pick(found[400:800]), True)):
            order_id, customer, moment, store, subtotal, tax, _ = line.values
            if has_moved:
                customer, moment = "CU-0299", f"{month}-31{moment[10:]}"
            else:
                subtotal = str(int(subtotal) + 100)
            total = str(int(subtotal) + int(tax))
            self.add(
                f"orders_{later}.csv", order_id, customer, moment, store, subtotal, tax, total, defect="corrected_order"
            )
            line.outcome = "duplicate"


def _odd_orders() -> Iterator[dict[str, Any]]:
    """What is wrong with some orders of each month."""
    for customer in ("CU-9901", "CU-9902", "CU-9901"):
        yield {"customer": customer, "defect": "unknown_customer"}
    for sku in ("SKU-999", "SKU-039"):
        yield {"more_skus": [sku], "defect": "has_unknown_product"}
    yield {"is_empty": True, "defect": "without_items"}
    yield {"gap": 250, "defect": "subtotal_is_not_the_sum_of_its_items"}
    rejected = (
        ("subtotal_unreadable", {"subtotal": "12,50"}),
        ("order_total_not_sum,tax_negative", {"tax_paid": "-5"}),
        ("order_total_missing", {"order_total": ""}),
        ("order_total_not_sum", {"order_total": "99999999"}),
        ("ordered_at_unreadable", {"ordered_at": "2026-02-30T10:00:00"}),
        ("ordered_at_in_future", {"ordered_at": "2999-01-01T10:00:00"}),
        ("customer_missing", {"customer": " "}),
        ("order_id_missing", {"id": ""}),
        ("customer_missing,ordered_at_missing,subtotal_negative,tax_unreadable",
         {"customer": "", "ordered_at": "", "subtotal": "-100", "tax_paid": "6%"}),
    )  # fmt: skip
    for rules, values in rejected:
        yield {"values": values, "rules": rules, "defect": rules.replace(",", "_and_"), "is_empty": "id" in values}


def _books(lines: list[_Line]) -> dict[str, int]:
    outcomes = Counter(line.outcome for line in lines)
    names = ("accepted", "duplicate", "rejected")
    return {
        "read": len(lines),
        "loaded": sum(outcomes[name] for name in names),
        **{name: outcomes[name] for name in ("dead_lettered", *names)},
    }


def _expected(shop: _Shop, seed: int) -> dict[str, Any]:
    everything = [line for lines in shop.lines.values() for line in lines]
    return {
        "seed": seed,
        "totals": _books(everything),
        "rules": dict(sorted(Counter(rule for line in everything for rule in line.rules).items())),
        "defects": dict(sorted(Counter(line.defect for line in everything if line.defect).items())),
        "files": {name: _books(lines) for name, lines in shop.lines.items()},
    }


def generate(seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of every file, expected.json last."""
    shop = _Shop(Dice(seed))
    shop.customers()
    shop.products()
    shop.months()
    for name, lines in shop.lines.items():
        kind = name.removesuffix(".csv").rpartition("_2026")[0] or name.removesuffix(".csv")
        text = "\n".join([csv_line(COLUMNS[kind]), *(line.text for line in lines)]) + "\n"
        yield name, text.encode()
    yield "expected.json", (json.dumps(_expected(shop, seed), indent=2) + "\n").encode()
