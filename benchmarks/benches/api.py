"""A paged HTTP API into the warehouse, beside a loop that only reads the bodies."""

import json
from pathlib import Path

from benchmarks import api_server
from benchmarks.benches import Context
from benchmarks.data import Dataset
from benchmarks.measure import Command, Subject, expect_rows
from benchmarks.penstock import penstock
from benchmarks.subjects import rival_command

TITLE = "A paged API, answers at once, into the warehouse"
ORDER = 4
AGAINST = "httpx loop"
PAGE_SIZE = 1000
MOST_ROWS = 500_000


def subjects(context: Context) -> list[Subject]:
    """Penstock, a bare httpx loop with the same concurrency, and the limit of the server itself."""
    return paged_subjects(context, PAGE_SIZE, latency=0.0)


def paged_subjects(context: Context, page_size: int, *, latency: float) -> list[Subject]:
    """The same for pages of another size, from a server that takes `latency` seconds for each answer."""
    dataset = context.dataset("pages", min(context.rows, MOST_ROWS), page_size=page_size)
    server = api_server.serve(dataset.path, page_size, latency=latency)
    url = context.stack.enter_context(server) + "/records"
    side_by_side = f"{context.concurrency} at a time, {page_size:,} records a page"
    return [
        penstock(dataset, page_source(url, page_size), settings={"CONCURRENCY": str(context.concurrency)}),
        _loop(AGAINST, "httpx_loop", dataset, url, page_size, context.concurrency, f"{side_by_side}, bodies only read"),
        _loop("server's limit", "socket_loop", dataset, url, page_size, context.concurrency, "bare sockets"),
    ]


def page_source(url: str, page_size: int | None) -> dict[str, object]:
    """The source of penstock.yml that reads the API; without a size BATCH_SIZE is the size."""
    pagination: dict[str, object] = {"type": "page", "size_param": "per_page", "total_path": "total"}
    if page_size is not None:
        pagination["size"] = page_size
    return {"type": "api", "url": url, "records_path": "data", "pagination": pagination}


def _loop(name: str, rival: str, dataset: Dataset, url: str, page_size: int, concurrency: int, note: str) -> Subject:
    pages = -(-dataset.rows // page_size)

    def prepare(_folder: Path) -> Command:
        return rival_command(rival, f"{url}?per_page={page_size}", str(pages), str(concurrency))

    def check(_folder: Path, output: str) -> None:
        told = json.loads(output.strip().splitlines()[-1])
        expect_rows(told["pages"], pages, "pages")
        expect_rows(told["bytes"], dataset.size_bytes - pages, "bytes")  # less the line ends of the file

    return Subject(name, dataset.rows, prepare, check, note)
