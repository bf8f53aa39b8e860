"""The marts of the shop once more, in plain Python over the CSV files: what the models are compared with."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

Row = tuple[Any, ...]
CENT = Decimal("0.01")
UNKNOWN = "(unknown)"


@dataclass
class Shop:
    """What counts in the end: the last valid record of each key, files in the order of their names."""

    customers: dict[str, str] = field(default_factory=dict)
    products: dict[str, tuple[str, str, str | None, Decimal]] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, tuple[str, str]] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_shop(files: Mapping[str, Sequence[Path]]) -> Shop:
    """The shop in its files, by kind: customers, products, orders, order_items; later files count more."""
    shop = Shop()
    for kind, readers in (
        ("customers", _customer), ("products", _product), ("orders", _order), ("order_items", _item),
    ):  # fmt: skip
        kept: dict[str, Any] = {}
        for path in files[kind]:
            with path.open(newline="", encoding="utf-8") as opened:
                lines = csv.reader(opened)
                header = next(lines)
                for line in lines:
                    if len(line) != len(header):
                        continue
                    found = readers({name: text.strip() for name, text in zip(header, line, strict=True)})
                    if found is None:
                        shop.outcomes[kind, "rejected"] += 1
                        continue
                    shop.outcomes[kind, "duplicate"] += found[0] in kept
                    kept[found[0]] = found[1]
        shop.outcomes[kind, "accepted"] += len(kept)
        setattr(shop, {"order_items": "items"}.get(kind, kind), kept)
    shop.outcomes = +shop.outcomes
    return shop


def _cents(text: str) -> Decimal | None:
    return Decimal(text) / 100 if re.fullmatch("[0-9]{1,12}", text) else None


def _customer(record: Mapping[str, str]) -> tuple[str, str] | None:
    return (record["id"], record["name"]) if record["id"] and record["name"] else None


def _product(record: Mapping[str, str]) -> tuple[str, Any] | None:
    price = _cents(record["price"])
    if price is None or not (record["sku"] and record["name"] and record["type"]):
        return None
    return record["sku"], (record["name"], record["type"], record["description"] or None, price)


def _order(record: Mapping[str, str]) -> tuple[str, Any] | None:
    amounts = [_cents(record[name]) for name in ("subtotal", "tax_paid", "order_total")]
    if None in amounts or not (record["id"] and record["customer"]):
        return None
    try:
        day = date.fromisoformat(record["ordered_at"][:10])
    except ValueError:
        return None
    subtotal, tax, total = (amount for amount in amounts if amount is not None)
    if day.year > 2900 or total != subtotal + tax:
        return None
    return record["id"], {"customer": record["customer"], "day": day, "subtotal": subtotal, "tax": tax, "total": total}


def _item(record: Mapping[str, str]) -> tuple[str, Any] | None:
    return (record["id"], (record["order_id"], record["sku"])) if all(record.values()) else None


def marts(shop: Shop, as_of: date) -> dict[str, list[Row]]:
    """The rows of every mart, their columns in the order of the models, sorted by their key."""
    of_day: dict[date, list[str]] = defaultdict(list)
    of_customer: dict[str, list[str]] = defaultdict(list)
    for order_id, order in shop.orders.items():
        of_day[order["day"]].append(order_id)
        of_customer[order["customer"] if order["customer"] in shop.customers else UNKNOWN].append(order_id)
    skus: dict[str, list[str]] = defaultdict(list)
    for order_id, sku in shop.items.values():
        if order_id in shop.orders:
            skus[order_id].append(sku)
    sold = Counter(sku if sku in shop.products else UNKNOWN for found in skus.values() for sku in found)
    by_product = {
        sku: (sku, name, category, sold[sku], sold[sku] * price)
        for sku, (name, category, _, price) in shop.products.items()
    }
    if sold[UNKNOWN]:
        by_product[UNKNOWN] = (UNKNOWN, UNKNOWN, UNKNOWN, sold[UNKNOWN], Decimal(0))
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in by_product.values():
        by_category[row[2]].append(row)
    names = shop.customers | ({UNKNOWN: UNKNOWN} if UNKNOWN in of_customer else {})
    found = {
        "product_catalogue": [(sku, *values) for sku, values in shop.products.items()],
        "revenue_by_product": list(by_product.values()),
        "revenue_by_category": [
            (category, len(rows), sum(row[3] for row in rows), sum(row[4] for row in rows))
            for category, rows in by_category.items()
        ],
        "revenue_by_day": [_day(shop, day, orders, skus) for day, orders in of_day.items()],
        "customer_metrics": [
            _customer_metrics(customer, name, [shop.orders[order] for order in of_customer[customer]], as_of)
            for customer, name in names.items()
        ],
    }
    key = {"revenue_by_day": -1}
    return {mart: sorted(rows, key=lambda row: row[key.get(mart, 0)]) for mart, rows in found.items()}


def _day(shop: Shop, day: date, orders: Sequence[str], skus: Mapping[str, Sequence[str]]) -> Row:
    found = [sku for order in orders for sku in skus.get(order, ())]
    known = [shop.products[sku][3] for sku in found if sku in shop.products]
    subtotal, tax, total = (sum(shop.orders[order][name] for order in orders) for name in ("subtotal", "tax", "total"))
    empty = sum(order not in skus for order in orders)
    worth = sum(known, Decimal(0))
    return (
        len(orders), empty, len(found), len(found) - len(known), subtotal, tax, total, worth, subtotal - worth, day
    )  # fmt: skip


def _customer_metrics(customer: str, name: str, orders: Sequence[Mapping[str, Any]], as_of: date) -> Row:
    is_known = customer != UNKNOWN
    revenue = sum((order["total"] for order in orders), Decimal(0))
    if not orders:
        return (customer, name, "prospect", 0, revenue, None, None, None, None, None, True, None, None)
    days = sorted(order["day"] for order in orders)
    average = (revenue / len(orders)).quantize(CENT, ROUND_HALF_UP)
    recency = (as_of - days[-1]).days
    scores: tuple[int | None, ...] = (
        next((score for score, limit in zip((5, 4, 3, 2), (7, 30, 90, 180), strict=True) if recency <= limit), 1),
        next((score for score, limit in zip((5, 4, 3, 2), (20, 10, 5, 2), strict=True) if len(orders) >= limit), 1),
        next((score for score, limit in zip((5, 4, 3, 2), (500, 200, 100, 50), strict=True) if revenue >= limit), 1),
    )
    segment = _segment(*scores) if is_known else "unknown"  # type: ignore[arg-type]
    if not is_known:
        scores = (None, None, None)
    return (
        customer, name, segment, len(orders), revenue, average, recency, *scores, is_known, days[0], days[-1]
    )  # fmt: skip


def _segment(recency: int, frequency: int, monetary: int) -> str:
    if min(recency, frequency, monetary) >= 4:
        return "champion"
    if min(recency, frequency) >= 3:
        return "loyal"
    if recency >= 4 and frequency == 1:
        return "new"
    if recency <= 2:
        return "at_risk" if frequency >= 3 else "lapsed"
    return "occasional"
