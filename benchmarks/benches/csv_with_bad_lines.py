"""A CSV file in which one line of a thousand is broken: what setting them aside costs."""

from benchmarks.benches import Context
from benchmarks.measure import Subject
from benchmarks.penstock import penstock
from benchmarks.subjects import duckdb_table

TITLE = "A CSV file with broken lines into the warehouse"
ORDER = 2
AGAINST = "duckdb"
SHARE = 0.001


def subjects(context: Context) -> list[Subject]:
    """Penstock with its dead letters, DuckDB with its table of rejects."""
    dataset = context.dataset("csv", context.rows, malformed=SHARE)
    return [
        penstock(dataset, note=f"{dataset.dead_letters:,} dead letters"),
        duckdb_table(AGAINST, "duckdb_csv_rejects", dataset, "read_csv as text with store_rejects"),
    ]
