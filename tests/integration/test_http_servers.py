"""API servers that others wrote, over real HTTP: datasette, json-server and a server that speaks HTTP/2."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import hypercorn.asyncio
import hypercorn.config
import pytest
import trustme

from foundation.errors import SourceError
from foundation.sources import ApiSource
from ingestion.parcels import Batch, Load, Parcel
from ingestion.readers.apis.client import ApiClients
from ingestion.readers.apis.reader import ApiReader
from tests.api_bench import loads_of, records_of, state_after

ROWS = 1234
# A walk in a process of its own, which says where it is and is killed there.
KILLED_WALK = """
import dataclasses, json, sys
from datetime import UTC, datetime
from pathlib import Path
from foundation.sources import ApiSource
from ingestion.parcels import Batch
from ingestion.readers.apis import pages as http_pages
from ingestion.readers.apis.reader import ApiReader
from ingestion.readers.apis.client import ApiClients

http_pages.BUNDLE_PAGES = 3
source = ApiSource.model_validate(json.loads(sys.argv[1]))
with ApiClients({}, concurrency=2, max_retries=3, batch_size=100) as clients:
    batch = Batch("run-1", datetime(2026, 1, 2, tzinfo=UTC), Path(sys.argv[2]))
    for parcel in ApiReader("talent__people", source, clients, batch).parcels():
        for load in parcel.loads:
            print(json.dumps(dataclasses.asdict(load) | {"loaded_at": None}), flush=True)
        print("parcel", flush=True)
"""


@contextmanager
def running(command: Sequence[str], url: str, **options: Any) -> Iterator[None]:
    """A server in a process of its own, from when it answers on."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        for _ in range(300):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            try:
                httpx.get(url, timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def employees() -> list[dict[str, Any]]:
    return [
        {"id": number, "name": f"Zoë {number}", "salary": number * 10.5, "updated_at": f"2026-01-{number % 28 + 1:02}"}
        for number in range(1, ROWS + 1)
    ]


def read(folder: Path, options: dict[str, Any], concurrency: int = 4, **arguments: Any) -> list[Parcel]:
    """All parcels of a source with these settings."""
    retry = {"first_wait_seconds": 0.05, "longest_wait_seconds": 0.2, "timeout_seconds": 10}
    source = ApiSource.model_validate({"type": "api", "retry": retry, **options})
    batch = Batch("run-1", datetime(2026, 1, 2, tzinfo=UTC), folder)
    with ApiClients({}, concurrency=concurrency, max_retries=3, batch_size=100) as clients:
        return list(ApiReader("talent__people", source, clients, batch, **arguments).parcels())


def ids_of(parcels: Sequence[Parcel]) -> list[int]:
    return [json.loads(record)["id"] for record in records_of(parcels)]


@pytest.fixture(scope="module")
def datasette(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = os.environ.get("PENSTOCK_TEST_DATASETTE") or shutil.which(
        "datasette", path=str(Path(sys.executable).parent)
    )
    if command is None:
        pytest.skip("datasette is not installed: pip install datasette, or name it in PENSTOCK_TEST_DATASETTE")
    folder = tmp_path_factory.mktemp("datasette")
    with sqlite3.connect(folder / "lab.db") as database:
        database.execute("create table employees (id integer primary key, name text, salary real, updated_at text)")
        database.executemany("insert into employees values (:id, :name, :salary, :updated_at)", employees())
    port = free_port()
    settings = ["--setting", "max_returned_rows", "200", "--setting", "default_page_size", "50"]
    url = f"http://127.0.0.1:{port}"
    serve = [command, "serve", str(folder / "lab.db"), "--host", "127.0.0.1", "--port", str(port), *settings]
    with running(serve, f"{url}/-/versions.json"):
        yield url


DATASETTE = {
    "records_path": "rows",
    "params": {"_shape": "objects", "_size": "200"},
    "pagination": {"type": "next_url", "next_path": "next_url", "total_path": "filtered_table_rows_count"},
}


@pytest.mark.parametrize(
    ("size", "paging"),
    [
        ("200", {"type": "next_url", "next_path": "next_url", "total_path": "filtered_table_rows_count"}),
        ("100", {"type": "cursor", "page_param": "_next", "next_path": "next"}),
        ("max", {"type": "link_header"}),
    ],
)
def test_every_row_of_datasette_arrives_once(datasette: str, tmp_path: Path, size: str, paging: dict[str, str]) -> None:
    options = {**DATASETTE, "params": {"_shape": "objects", "_size": size}, "pagination": paging}
    parcels = read(tmp_path, {"url": f"{datasette}/lab/employees.json", **options})
    assert ids_of(parcels) == list(range(1, ROWS + 1))
    assert json.loads(records_of(parcels)[0]) == employees()[0]


def test_datasette_tells_why_it_refuses_a_page(datasette: str, tmp_path: Path) -> None:
    options = {**DATASETTE, "params": {"_shape": "objects", "_size": "2000"}}
    with pytest.raises(SourceError, match=r"answered 400: .*_size must be <= 200"):
        read(tmp_path, {"url": f"{datasette}/lab/employees.json", **options})


def test_datasette_is_asked_for_what_is_new_and_late(datasette: str, tmp_path: Path) -> None:
    options = {
        **DATASETTE,
        "url": f"{datasette}/lab/employees.json",
        "cursor_path": "id",
        "cursor_param": "id__gte",
        "cursor_lag": 10,
    }
    first = read(tmp_path, options)
    assert loads_of(first)[-1].cursor == str(ROWS)
    second = read(tmp_path, options, state=state_after(first))
    assert ids_of(second) == list(range(ROWS - 10, ROWS + 1))


def test_each_row_of_datasette_can_be_asked_for_alone(datasette: str, tmp_path: Path) -> None:
    options = {
        "url": f"{datasette}/lab/employees/{{id}}.json",
        "params": {"_shape": "objects"},
        "records_path": "rows",
        "for_each": {"source": "talent__ids", "field": "id"},
    }
    parcels = read(tmp_path, options, ids=["7", "99999", "8"])
    assert ids_of(parcels) == [7, 8]
    assert [load.records_dead_lettered for load in loads_of(parcels)] == [0, 1, 0]


def test_a_walk_over_datasette_that_was_killed_goes_on_after_its_last_page(datasette: str, tmp_path: Path) -> None:
    options = {**DATASETTE, "type": "api", "url": f"{datasette}/lab/employees.json"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_WALK, json.dumps(options), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    loads = []
    for line in process.stdout:
        if line.strip() == "parcel":
            break
        loads.append(Load(**json.loads(line)))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert [load.lines for load in loads] == [1, 2, 3]
    rest = read(tmp_path, options, state=state_after([Parcel(loads, None, (), None)]))
    assert [load.lines for load in loads_of(rest)] == [4, 5, 6, 7]
    assert ids_of(rest) == list(range(601, ROWS + 1))


@pytest.fixture(scope="module")
def json_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = os.environ.get("PENSTOCK_TEST_JSON_SERVER") or shutil.which("json-server")
    if command is None:
        pytest.skip(
            "json-server is not installed: npm install json-server@0.17.4 and name it in PENSTOCK_TEST_JSON_SERVER"
        )
    folder = tmp_path_factory.mktemp("json_server")
    (folder / "db.json").write_text(json.dumps({"employees": employees()}))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = [command, "--host", "127.0.0.1", "--port", str(port), "--read-only", str(folder / "db.json")]
    with running(serve, f"{url}/employees?_limit=1", cwd=folder):
        yield url


@pytest.mark.parametrize(
    "paging",
    [
        {"type": "page", "page_param": "_page", "size_param": "_limit", "size": 50},
        {"type": "page", "page_param": "_page", "size_param": "_limit", "size": 617},
        {"type": "offset", "page_param": "_start", "first_page": 0, "size_param": "_limit", "size": 100},
        {"type": "link_header", "size_param": "_limit", "size": 100},
    ],
)
def test_every_record_of_json_server_arrives_once(json_server: str, tmp_path: Path, paging: dict[str, Any]) -> None:
    params = {"_page": "1"} if paging["type"] == "link_header" else {}
    parcels = read(tmp_path, {"url": f"{json_server}/employees", "params": params, "pagination": paging})
    assert ids_of(parcels) == list(range(1, ROWS + 1))


def test_json_server_is_not_asked_beyond_its_count(json_server: str, tmp_path: Path) -> None:
    paging = {"type": "page", "page_param": "_page", "size_param": "_limit", "size": 617}
    parcels = read(tmp_path, {"url": f"{json_server}/employees", "pagination": paging})
    assert [load.records_read for load in loads_of(parcels)] == [617, 617]


class Http2Server:
    """A server with TLS that offers HTTP/2, and what it was asked over which version."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        self.authority = folder / "authority.pem"
        self.port = free_port()
        self.versions: list[str] = []
        self._config = hypercorn.config.Config()
        self._config.bind = [f"127.0.0.1:{self.port}"]
        self._config.certfile = self._config.keyfile = str(folder / "server.pem")
        self._config.errorlog = None
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Http2Server":
        self._thread.start()
        context = ssl.create_default_context(cafile=str(self.authority))
        for _ in range(100):
            try:
                httpx.get(f"https://127.0.0.1:{self.port}/people", verify=context)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        self.versions.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        wait = self._ended.wait
        self._loop.run_until_complete(hypercorn.asyncio.serve(self._app, self._config, shutdown_trigger=wait))  # type: ignore[arg-type]

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.versions.append(scope["http_version"])
        query = dict(pair.split("=") for pair in scope["query_string"].decode().split("&") if pair)
        number = int(query.get("page", 1))
        data = [{"id": 100 * number + index, "text": "x" * 500} for index in range(100)] if number <= 60 else []
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps({"data": data}).encode()})


@pytest.fixture(scope="module")
def http2_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Server]:
    with Http2Server(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.mark.parametrize(("http2", "version"), [(True, "2"), (False, "1.1")])
def test_http2_is_spoken_where_it_is_offered_and_wanted(
    http2_server: Http2Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, http2: bool, version: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(http2_server.authority))
    http2_server.versions.clear()
    options = {
        "url": f"https://127.0.0.1:{http2_server.port}/people",
        "records_path": "data",
        "pagination": {"type": "page"},
        "http2": http2,
    }
    parcels = read(tmp_path, options, concurrency=8)
    assert ids_of(parcels) == list(range(100, 6100))
    assert set(http2_server.versions) == {version}


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(http2_server: Http2Server, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SourceError, match="the certificate of the API is not trusted"):
        read(tmp_path, {"url": f"https://127.0.0.1:{http2_server.port}/people"})
    assert time.monotonic() - started < 2
