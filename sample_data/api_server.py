"""A local HTTP API over the sample records: `with serve() as base_url`, or `python -m sample_data.api_server --port N`.

GET /employees?page=1&per_page=100&updated_after=2025-01-01T00:00:00Z answers
{"data": [...], "page": 1, "per_page": 100, "total": 600, "total_pages": 6, "next": "http://..."}
GET /datasets answers likewise with {"slug": ..., "Name": ...} of each data set, GET /datasets/SLUG with one whole.
"""

import argparse
import json
import logging
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

DATA = Path(__file__).parent / "employees" / "talent.json"
CATALOGUE = Path(__file__).parent / "catalogue" / "datasets.ndjson"
HOST = "127.0.0.1"
PER_PAGE = 100
PER_PAGE_MAX = 500
PAGE_MAX = 1_000_000

_log = logging.getLogger(__name__)


class QueryError(Exception):
    """A query parameter with a value that cannot be served."""


@dataclass(frozen=True)
class _Item:
    """One item of the array: its text as in the file, and its update time where it has one."""

    text: str
    updated_at: datetime | None


@contextmanager
def serve(data: Path | None = DATA, *, catalogue: Path | None = None, port: int = 0) -> Iterator[str]:
    """The base URL of a server in this process; port 0 takes a free one.

    It serves the JSON array in `data` and the data sets in `catalogue`, one a line; nothing of what is None. It ends
    with the context or, however that dies, with the process. Raises OSError when a file or the port cannot be had,
    ValueError when `data` holds no JSON array or a line of `catalogue` no data set.
    """
    lists: dict[str, Sequence[_Item]] = {}
    if data is not None:
        lists["/employees"] = _read_items(data.read_text(encoding="utf-8"))
    details = {} if catalogue is None else _read_details(catalogue.read_text(encoding="utf-8"))
    if catalogue is not None:
        lists["/datasets"] = [_Item(_summary(slug, text), None) for slug, text in details.items()]
    server = _Server(port, lists, details)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="sample-api", daemon=True)
    thread.start()
    try:
        yield server.base_url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def find_page(items: Sequence[_Item], query: dict[str, str], url: str) -> tuple[str, str | None]:
    """The JSON text of the page of `url` that `query` asks for, and the URL of the next one if there is one.

    Raises QueryError.
    """
    page = _read_number(query, "page", default=1, highest=PAGE_MAX)
    per_page = _read_number(query, "per_page", default=PER_PAGE, highest=PER_PAGE_MAX)
    filters = {name: value for name, value in query.items() if name == "updated_after"}
    if filters:
        after = _read_time(filters["updated_after"])
        if after is None:
            raise QueryError(f"updated_after is {filters['updated_after']!r}: it takes an ISO 8601 date or time")
        items = [item for item in items if item.updated_at is not None and item.updated_at > after]
    total_pages = -(-len(items) // per_page)
    following = None
    if page < total_pages:
        following = f"{url}?{urlencode({'page': page + 1, 'per_page': per_page, **filters})}"
    counts = {"page": page, "per_page": per_page, "total": len(items), "total_pages": total_pages, "next": following}
    texts = [item.text for item in items[(page - 1) * per_page : page * per_page]]
    # The items go out as they stand in the file: reading and writing them again could change a number or an escape.
    return f'{{"data": [{", ".join(texts)}], {json.dumps(counts)[1:]}', following


# What socketserver calls a request: over TCP always a socket.
_Connection = socket.socket | tuple[bytes, socket.socket]


class _Server(ThreadingHTTPServer):
    """The lists by their path, the data sets by their slug, and the open connections, which must not outlive it."""

    daemon_threads = True

    def __init__(self, port: int, lists: Mapping[str, Sequence[_Item]], details: Mapping[str, str]) -> None:
        self.lists, self.details = lists, details
        self._open: set[_Connection] = set()
        super().__init__((HOST, port), _Handler)
        self.base_url = f"http://{HOST}:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without asking the name service what this machine is called, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: _Connection, client_address: object) -> None:
        """Remember the connection, then answer it in a thread of its own."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Connection) -> None:
        """Forget a connection that is done."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: _Connection, client_address: object) -> None:  # noqa: ARG002 the base class's
        """Log a connection that broke instead of printing a traceback."""
        _log.debug("connection from %s broke", client_address, exc_info=True)

    def server_close(self) -> None:
        """Stop listening, and end the connections that a client keeps alive."""
        super().server_close()
        for connection in list(self._open):
            with suppress(OSError):
                assert isinstance(connection, socket.socket)
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a connection may be idle
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with a page of a list, with a data set, or with an error as JSON."""
        server = cast(_Server, self.server)
        url = urlsplit(self.path)
        path = url.path.rstrip("/")
        if path.startswith("/datasets/") and (detail := server.details.get(unquote(path.removeprefix("/datasets/")))):
            self._send(HTTPStatus.OK, detail, {})
            return
        if path not in server.lists:
            self.send_error(HTTPStatus.NOT_FOUND, f"there is no {url.path}; see {' and '.join(server.lists)}")
            return
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        try:
            body, following = find_page(server.lists[path], query, server.base_url + path)
        except QueryError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._send(HTTPStatus.OK, body, {"Link": f'<{following}>; rel="next"'} if following else {})

    do_HEAD = do_GET  # noqa: N815 the base class finds methods by this name

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error as JSON, also where the base class would send a page of HTML."""
        status = HTTPStatus(code)
        error = {"status": status.value, "reason": status.phrase, "message": message or explain or status.description}
        self.close_connection = self.close_connection or status is not HTTPStatus.NOT_FOUND
        self._send(status, json.dumps({"error": error}), {"Connection": "close"} if self.close_connection else {})

    def log_message(self, format: str, *args: object) -> None:
        """Log requests where the caller's logging wants them, not on standard error."""
        _log.debug(format, *args)

    def _send(self, status: HTTPStatus, body: str, headers: dict[str, str]) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _read_items(text: str) -> list[_Item]:
    """The items of a JSON array, each with its text as written. Raises ValueError if `text` is no array."""
    if not isinstance(json.loads(text), list):
        raise ValueError("the sample API serves a JSON array")
    decoder = json.JSONDecoder()
    items = []
    place = _skip(text, text.index("[") + 1, "")
    while text[place] != "]":
        value, end = decoder.raw_decode(text, place)
        updated_at = _read_time(value.get("updatedAt")) if isinstance(value, dict) else None
        items.append(_Item(text[place:end], updated_at))
        place = _skip(text, end, ",")
    return items


def _read_details(text: str) -> dict[str, str]:
    """The lines of an NDJSON text by their slug. Raises ValueError for one without."""
    details = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("slug"), str):
                raise ValueError(f"line {number} of the catalogue is no data set with a slug")
            details[record["slug"]] = line
    return details


def _summary(slug: str, text: str) -> str:
    return json.dumps({"slug": slug, "Name": json.loads(text).get("Name")}, ensure_ascii=False)


def _skip(text: str, place: int, signs: str) -> int:
    while text[place] in " \t\r\n" + signs:
        place += 1
    return place


def _read_number(query: dict[str, str], name: str, *, default: int, highest: int) -> int:
    text = query.get(name, str(default))
    # The digits are counted first: int() refuses a text of some thousands.
    number = int(text) if re.fullmatch("[0-9]{1,10}", text) else 0
    if not 1 <= number <= highest:
        raise QueryError(f"{name} is {text!r}: it takes a whole number from 1 to {highest}")
    return number


def _read_time(value: object) -> datetime | None:
    """An ISO 8601 time, taken as UTC unless it says otherwise; None if it cannot be read."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sample_data.api_server", description="Serve the sample records.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default 8000)")
    parser.add_argument("--data", type=Path, default=DATA, help="a JSON array (default talent.json)")
    options = parser.parse_args(arguments)
    with serve(options.data, catalogue=CATALOGUE, port=options.port) as base_url, suppress(KeyboardInterrupt):
        sys.stdout.write(f"{base_url}/employees\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
