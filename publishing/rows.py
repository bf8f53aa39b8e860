"""Rows of the warehouse on their way to Postgres, in the binary format of COPY that DuckDB's extension writes.

They go through a pipe and not over a connection of the extension: COPY has to be part of the publisher's transaction.
"""

import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from foundation.attaching import load_extension

if TYPE_CHECKING:
    import duckdb

_CHUNK_BYTES = 1 << 16  # what a pipe holds
_REPORTED_BYTES = 1 << 24


def stream(
    warehouse: "duckdb.DuckDBPyConnection", selected: Sequence[str], relation: str
) -> Generator[tuple[bytes, float | None]]:
    """Expressions over a relation's rows in COPY's binary format, piece by piece, now and then with the share sent.

    Raises duckdb.Error for what DuckDB cannot read or write. Closed early, it ends the query.
    """
    load_extension(warehouse)
    # What gives the share of a query that is done, and would print it otherwise.
    warehouse.execute("set enable_progress_bar = true; set enable_progress_bar_print = false")
    reading, writing = os.pipe()
    query = f"copy (select {', '.join(selected)} from {relation}) to '/dev/fd/{writing}' (format postgres_binary)"

    def write() -> None:
        try:
            warehouse.execute(query)
        finally:
            os.close(writing)

    with ThreadPoolExecutor(1, thread_name_prefix="rows") as pool:
        written = pool.submit(write)
        sent, reported = 0, 0
        try:
            while chunk := os.read(reading, _CHUNK_BYTES):
                sent += len(chunk)
                is_due = sent - reported >= _REPORTED_BYTES
                reported = sent if is_due else reported
                yield chunk, max(0.0, warehouse.query_progress()) / 100 if is_due else None
        except BaseException:  # the receiver gave up, or the user did
            warehouse.interrupt()
            raise
        finally:
            os.close(reading)
        written.result()
