"""What several files of unit tests start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from tests.api_bench import ApiBench


@pytest.fixture(scope="session")
def http_server() -> Iterator[HTTPServer]:
    """A real HTTP server that answers as each test tells it to."""
    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        yield server


@pytest.fixture
def api(tmp_path: Path, http_server: HTTPServer) -> Iterator[ApiBench]:
    """The server, and readers of it."""
    folder = tmp_path / "parcels"
    folder.mkdir()
    http_server.clear()
    yield ApiBench(http_server, folder)
    http_server.check_handler_errors()
