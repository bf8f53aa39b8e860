"""The work of a bench done in other ways, each as a command: `python -m benchmarks.rivals NAME ARGUMENTS...`.

A library is imported only by the one that needs it, so that each pays for its own start.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def duckdb_csv(file: str, target: str) -> None:
    """Bare DuckDB: one statement, the types detected."""
    _create_table(target, "read_csv($file)", file)


def duckdb_csv_text(file: str, target: str) -> None:
    """Bare DuckDB: one statement, every column as text, as raw holds them."""
    _create_table(target, "read_csv($file, all_varchar = true)", file)


def duckdb_csv_rejects(file: str, target: str) -> None:
    """Bare DuckDB: one statement, every column as text, broken lines in its table of rejects.

    The dialect is spelt out: found out from a file with broken lines it can be another one, and good lines are lost.
    """
    dialect = "header = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\n', strict_mode = true"
    _create_table(target, f"read_csv($file, all_varchar = true, store_rejects = true, {dialect})", file)


def duckdb_json(file: str, target: str) -> None:
    """Bare DuckDB: one statement, the types detected."""
    _create_table(target, "read_json($file)", file)


def duckdb_json_text(file: str, target: str) -> None:
    """Bare DuckDB: one statement, every record whole as JSON text, as raw holds them."""
    _create_table(target, "read_json_objects($file)", file)


def dlt_dicts(file: str, folder: str) -> None:
    """dlt as its tutorials use it: a generator of dictionaries into a DuckDB file."""
    import csv

    import dlt

    def rows() -> Iterator[dict[str, Any]]:
        with Path(file).open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)

    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=f"{folder}/pipelines",
        destination=dlt.destinations.duckdb(f"{folder}/out.duckdb"),
        dataset_name="raw",
    )
    pipeline.run(rows(), table_name="employees")


def pandas_postgres(file: str, dsn: str, table: str) -> None:
    """pandas as its documentation has it: read_csv in chunks, each into Postgres with to_sql."""
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]
    import sqlalchemy

    engine = sqlalchemy.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        for number, chunk in enumerate(pd.read_csv(file, chunksize=50_000)):
            # The default method: "multi", with its one statement for many rows, takes several times as long.
            chunk.to_sql(table, connection, if_exists="append" if number else "replace", index=False)


def postgres_copy(file: str, dsn: str) -> None:
    """Postgres alone: the server reads the file itself into a new table, then makes the key and the indexes."""
    import psycopg

    with psycopg.connect(dsn) as connection:
        connection.execute(
            "create table employees (id text not null, name text, email text, age integer, department text,"
            " salary numeric, join_date date, is_active boolean, reviewed_at timestamp, metadata jsonb,"
            " created_at timestamptz not null default now(), updated_at timestamptz not null default now())"
        )
        connection.execute(
            "copy employees (id, name, email, age, department, salary, join_date, is_active, reviewed_at, metadata)"
            f" from '{file}' (format csv)".encode()
        )
        connection.execute("alter table employees add constraint employees_pkey primary key (id)")
        connection.execute(
            "alter table employees add constraint employees_email_key unique (email) deferrable initially immediate"
        )
        connection.execute("create index employees_department_idx on employees (department)")


def connect(warehouse: str, dsn: str) -> None:
    """The least of a publish: both databases opened and asked for nothing."""
    import duckdb
    import psycopg

    with duckdb.connect(warehouse, read_only=True), psycopg.connect(dsn) as connection:
        connection.execute("select 1")


def httpx_loop(url: str, pages: str, concurrency: str) -> None:
    """A bare httpx client in a pool of threads; the bodies are read and dropped."""
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(int(concurrency)) as pool:

        def fetch(page: int) -> int:
            return len(client.get(f"{url}&page={page}").raise_for_status().content)

        _tell(list(pool.map(fetch, range(1, int(pages) + 1))))


def socket_loop(url: str, pages: str, concurrency: str) -> None:
    """Bare sockets with the requests written out: what the server itself can do."""
    import socket
    from concurrent.futures import ThreadPoolExecutor
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or 80

    def fetch(start: int) -> list[int]:
        sizes = []
        with socket.create_connection(address) as connection:
            buffer = bytearray(1 << 20)
            for page in range(start, int(pages) + 1, int(concurrency)):
                connection.sendall(f"GET {parts.path}?{parts.query}&page={page} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                head, _, body = head.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(head.decode())
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                left = size - len(body)
                while left:
                    left -= connection.recv_into(buffer, min(left, len(buffer)))
                sizes.append(size)
        return sizes

    with ThreadPoolExecutor(int(concurrency)) as pool:
        found = pool.map(fetch, range(1, int(concurrency) + 1))
        _tell([size for sizes in found for size in sizes])


def _create_table(target: str, relation: str, file: str) -> None:
    import duckdb

    with duckdb.connect(target) as connection:
        connection.execute(f"create table employees as select * from {relation}", {"file": file})


def _tell(sizes: list[int]) -> None:
    sys.stdout.write(json.dumps({"pages": len(sizes), "bytes": sum(sizes)}) + "\n")


RIVALS: dict[str, Callable[..., None]] = {
    rival.__name__: rival
    for rival in (
        duckdb_csv,
        duckdb_csv_text,
        duckdb_csv_rejects,
        duckdb_json,
        duckdb_json_text,
        dlt_dicts,
        pandas_postgres,
        postgres_copy,
        connect,
        httpx_loop,
        socket_loop,
    )
}

if __name__ == "__main__":
    RIVALS[sys.argv[1]](*sys.argv[2:])
