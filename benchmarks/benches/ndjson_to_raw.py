"""A file of one JSON record a line into the warehouse."""

from benchmarks.benches import Context
from benchmarks.measure import Subject
from benchmarks.penstock import penstock
from benchmarks.subjects import duckdb_table

TITLE = "An NDJSON file into the warehouse"
ORDER = 3
AGAINST = "duckdb"


def subjects(context: Context) -> list[Subject]:
    """Penstock; DuckDB with a column for each key, and with every record whole."""
    dataset = context.dataset("ndjson", context.rows)
    return [
        penstock(dataset),
        duckdb_table(AGAINST, "duckdb_json", dataset, "create table as select * from read_json(file)"),
        duckdb_table("duckdb, as text", "duckdb_json_text", dataset, "read_json_objects, records whole as in raw"),
    ]
