"""A bench for readers of HTTP APIs: a real server, and readers of it that share their clients."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from foundation.sources import ApiSource
from ingestion.parcels import Batch, Load, Parcel
from ingestion.readers.apis.client import ApiClients
from ingestion.readers.apis.reader import ApiReader
from ingestion.readers.framing import KnownPrefix
from ingestion.state import SourceState
from tests.arrow import fetch

QUICK = {"first_wait_seconds": 0.01, "longest_wait_seconds": 0.05, "timeout_seconds": 1}
PAGED = {"records_path": "data", "pagination": {"type": "page"}}


class ApiBench:
    """A server under ${API_BASE_URL} and readers of its /people, each with clients of its own."""

    def __init__(self, server: HTTPServer, folder: Path) -> None:
        # An address of its own, which no request that an earlier test let go of can reach.
        self.root = f"/{uuid.uuid4().hex[:8]}"
        self.server = server
        self.batch = Batch("run-1", datetime(2026, 1, 2, tzinfo=UTC), folder)
        self.notices: list[str] = []
        self.variables = {"API_BASE_URL": server.url_for(self.root), "API_KEY": "s3cret"}

    def clients(self, concurrency: int = 3, **options: Any) -> ApiClients:
        """Clients as one run has them."""
        return ApiClients(self.variables, concurrency=concurrency, max_retries=3, batch_size=50, **options)

    def source(self, **options: Any) -> ApiSource:
        """A source of /people with these settings."""
        return ApiSource.model_validate({"type": "api", "url": "${API_BASE_URL}/people", "retry": QUICK, **options})

    def reader(self, clients: ApiClients, options: Mapping[str, Any], **arguments: Any) -> ApiReader:
        """A reader of such a source."""
        return ApiReader(
            "talent__people", self.source(**options), clients, self.batch, notice=self.notices.append, **arguments
        )

    def stream(
        self, concurrency: int = 3, arguments: Mapping[str, Any] | None = None, **options: Any
    ) -> Iterator[Parcel]:
        """The parcels of one reading, one after the other."""
        with self.clients(concurrency) as clients:
            yield from self.reader(clients, options, **(arguments or {})).parcels()

    def read(self, concurrency: int = 3, arguments: Mapping[str, Any] | None = None, **options: Any) -> list[Parcel]:
        """All parcels of one reading."""
        return list(self.stream(concurrency, arguments, **options))

    def later(self, **changes: Any) -> None:
        """The next reading belongs to a run of its own."""
        self.batch = replace(self.batch, **{"run_id": "run-2", **changes})

    def serve(self, answer: Callable[[Request], Response], path: str = "/people") -> None:
        """Let the server answer so."""
        self.server.expect_request(self.root + path).respond_with_handler(answer)

    def serve_pages(self, pages: Sequence[Sequence[Any]], **extra: Any) -> None:
        """Pages by number, empty ones after them."""

        def answer(request: Request) -> Response:
            number = int(request.args.get("page", "1"))
            data = pages[number - 1] if number <= len(pages) else []
            return json_response({"data": data, **extra})

        self.serve(answer)

    def requests(self) -> list[Request]:
        """The requests so far."""
        return [request for request, _ in self.server.log if request.path.startswith(f"{self.root}/")]

    def asked(self, name: str) -> list[str]:
        """What the requests so far had in a query parameter."""
        return [request.args[name] for request in self.requests()]


def json_response(body: Any, **options: Any) -> Response:
    """An answer as an API gives it."""
    return Response(json.dumps(body), content_type="application/json", **options)


def records_of(parcels: Sequence[Parcel]) -> list[str]:
    """The texts of the records, in their order."""
    return [record for parcel in parcels if parcel.rows for (record,) in fetch(parcel.rows, "select record from found")]


def loads_of(parcels: Sequence[Parcel]) -> list[Load]:
    """The loads, one a page."""
    return [load for parcel in parcels for load in parcel.loads]


def state_after(parcels: Sequence[Parcel], before: SourceState | None = None) -> SourceState:
    """What the next run knows of these parcels."""
    loads = loads_of(parcels)
    known = dict(before.prefixes) if before else {}
    known |= {load.location: KnownPrefix(load.position_bytes, load.lines, load.content_hash) for load in loads}
    cursors = [load.cursor for load in loads if load.cursor is not None]
    resume = loads[-1].resume
    return SourceState(
        prefixes=known, cursors={"": cursors[-1]} if cursors else {}, resumes={"": resume} if resume else {}
    )


def digests_of(records: Sequence[str]) -> pa.Array:
    """What `known_records` holds of such records."""
    return duckdb.execute("select sha256(unnest(?::varchar[])) as digest", [list(records)]).arrow().read_all()["digest"]
