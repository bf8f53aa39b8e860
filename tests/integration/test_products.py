"""A catalogue in partitions, by category, range of ids or hash: side by side, each failing and coming again alone."""

import gzip
import shutil
from pathlib import Path

import duckdb
import pytest

from benchmarks.catalogue import CATEGORIES, CHANGED, PRODUCTS, make_catalogue
from tests.ingest_bench import Bench

ROWS = 24_000
# How the files are named, how the partitions are told, and which of them is broken and which comes first.
LAYOUTS = {
    "category": (
        "category",
        "{ by: values, values: [CATEGORIES], priority: { toys: 2, tools: 1 } }",
        "inbox/{value}.csv.gz",
        ("books", ["toys", "tools"]),
    ),
    "id range": (
        "(substr(id, 2)::bigint // 2000) * 2000",
        "{ by: range, start: 0, stop: 24000, step: 2000, priority: { 22000 to 23999: 1 } }",
        "inbox/{start}.csv.gz",
        ("4000 to 5999", ["22000 to 23999"]),
    ),
    "hash": (
        "hash(id) % 8",
        "{ by: hash, buckets: 8, priority: { 7 of 8: 3 } }",
        "inbox/{bucket}.csv.gz",
        ("3 of 8", ["7 of 8"]),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_broken_partition_of_a_catalogue_fails_alone_and_is_read_again_alone(tmp_path: Path, layout: str) -> None:
    named_by, partitions, path, (broken, first) = LAYOUTS[layout]
    bench = Bench(
        tmp_path,
        f"""
concurrency: 2
sources:
  mall__products:
    type: csv
    path: {path}
    partitions: {partitions.replace("CATEGORIES", ", ".join(CATEGORIES))}
""",
    )
    _split(tmp_path / "products", named_by, bench.inbox)
    counts = {file: _count(file) for file in bench.inbox.iterdir()}
    assert sum(counts.values()) == ROWS
    victim = next(file for file in counts if _is_of(file, broken))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    result = bench.ingest()
    states = {each.part.name: each.state for each in result.parts}
    assert [name for name, state in states.items() if state == "failed"] == [broken]
    assert len(states) == len(counts)
    assert list(states)[: len(first)] == first
    assert result.sources["mall__products"].counts["loaded"] == ROWS - counts[victim]
    victim.write_bytes(whole)
    result = bench.ingest()
    assert {each.part.name for each in result.parts if each.counts["read"]} == {broken}
    assert result.sources["mall__products"].counts["loaded"] == counts[victim]
    found = f"select count(distinct id), count(*) from raw.mall__products where _load_id in ({COMPLETE})"
    assert bench.query(found) == [(ROWS, ROWS)]


def test_a_later_version_differs_by_the_products_that_are_counted(tmp_path: Path) -> None:
    made = make_catalogue(tmp_path, ROWS)
    assert make_catalogue(tmp_path, ROWS) == made
    assert sum(map(made.count, CATEGORIES)) == ROWS
    before = made.folder / CHANGED / PRODUCTS
    count, others, dearer = duckdb.execute(
        "select count(*), count(*) filter (where a <> b), count(*) filter (where b.price = round(a.price + 0.01, 2))"
        f" from read_csv('{before}') as a join read_csv('{made.later}') as b using (id)"
    ).fetchall()[0]
    assert (count, others, dearer) == (made.count(CHANGED), made.changed, made.changed)
    with pytest.raises(ValueError, match="empty categories"):
        make_catalogue(tmp_path, 3)


COMPLETE = (
    "select loads.load_id from raw.loads as loads join raw._dlt_loads as done"
    " on done.load_id = loads._dlt_load_id and done.status = 0"
)


def _split(cache: Path, named_by: str, inbox: Path) -> None:
    made = make_catalogue(cache, ROWS)
    with duckdb.connect() as connection:
        connection.execute(f"create table products as from read_csv('{made.folder}/*/*.csv', all_varchar := true)")
        for (name,) in connection.execute(f"select distinct ({named_by})::varchar from products").fetchall():
            file = inbox / f"{name}.csv"
            connection.execute(f"copy (from products where ({named_by})::varchar = '{name}') to '{file}' (header true)")
            with file.open("rb") as plain, gzip.open(f"{file}.gz", "wb") as packed:
                shutil.copyfileobj(plain, packed)
            file.unlink()


def _count(file: Path) -> int:
    with gzip.open(file) as stream:
        return sum(1 for _ in stream) - 1


def _is_of(file: Path, partition: str) -> bool:
    return file.name.removesuffix(".csv.gz") == partition.partition(" ")[0]
