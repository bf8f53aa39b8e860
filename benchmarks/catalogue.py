"""An invented catalogue of products of any size: a folder with a CSV file for each category, and a later one of one."""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks import SEED

CATEGORIES: Sequence[str] = (
    "art", "baby", "books", "camping", "clothes", "computers", "food", "furniture", "games", "garden", "kitchen",
    "music", "phones", "shoes", "tools", "toys",
)  # fmt: skip
CHANGED = "garden"  # the category of which there is a later version
EVERY = 100  # of its products one has another price then
PRODUCTS = "products.csv"


@dataclass(frozen=True)
class Catalogue:
    """`folder` has a folder for each category with its `products.csv`; `later` is a new version of that of CHANGED."""

    folder: Path
    later: Path
    rows: int

    def count(self, category: str) -> int:
        """How many products a category has."""
        return len(range(CATEGORIES.index(category), self.rows, len(CATEGORIES)))

    @property
    def changed(self) -> int:
        """How many products differ in the later version."""
        return len(range(0, self.count(CHANGED), EVERY))


def make_catalogue(folder: Path, rows: int, *, seed: int = SEED) -> Catalogue:
    """The catalogue from the cache in `folder`, made first if it is not there."""
    if rows < len(CATEGORIES):
        raise ValueError(f"a catalogue of {rows} products has empty categories")
    queries = [_products(rows, place, version, seed) for place in range(len(CATEGORIES)) for version in (0, 1)]
    name = hashlib.sha256(f"{queries}{duckdb.__version__}".encode()).hexdigest()[:12]
    home = folder / "data" / f"catalogue-{rows}-{name}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
        try:
            with duckdb.connect() as connection:
                connection.execute("set enable_progress_bar = false")
                for place, category in enumerate(CATEGORIES):
                    (unfinished / category).mkdir()
                    _write(connection, _products(rows, place, 0, seed), unfinished / category / PRODUCTS)
                later = _products(rows, CATEGORIES.index(CHANGED), 1, seed)
                _write(connection, later, unfinished / "later.csv")
            if not home.exists():  # another process may have made it meanwhile
                unfinished.rename(home)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Catalogue(home, home / "later.csv", rows)


def _write(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> None:
    connection.execute(f"copy ({query}) to '{file}' (format csv, header true)")


def _products(rows: int, place: int, version: int, seed: int) -> str:
    """SQL for the products of one category, in the order of their ids."""
    step = len(CATEGORIES)
    is_other = f"{version} = 1 and (i // {step}) % {EVERY} = 0"
    return f"""
        select
            'P' || lpad(i::varchar, 9, '0') as id,
            '{CATEGORIES[place]} no. ' || (hash(i, {seed}, 1) % 90000 + 10000)::varchar as name,
            '{CATEGORIES[place]}' as category,
            ((hash(i, {seed}, 2) % 50000 + 100)::bigint + if({is_other}, 1, 0)) / 100.0::decimal(4, 1) as price,
            if({is_other}, '2026-11-02', '2026-11-01') as changed_on
        from range({place}, {rows}, {step}) as numbers(i)
        order by i
    """
