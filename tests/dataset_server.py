"""A registry on a bare socket: a list of data sets, one answer for each, and what goes wrong with some of them."""

import contextlib
import json
import re
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.fault_server import answer

PAGE_SIZE = 50

# Sends what is wrong, and says whether the connection goes on.
Fault = Callable[[socket.socket, bytes], bool]


def _status(connection: socket.socket, _: bytes) -> bool:
    connection.sendall(answer(b"out of order", status="500 Broken"))
    return True


def _silence(connection: socket.socket, _: bytes) -> bool:
    connection.settimeout(5)
    with contextlib.suppress(OSError):
        connection.recv(1)  # until the client gives up
    return False


def _drop(_connection: socket.socket, _: bytes) -> bool:
    return False


def _truncated(connection: socket.socket, body: bytes) -> bool:
    connection.sendall(answer(body[: len(body) // 2]))
    return True


def _malformed(connection: socket.socket, body: bytes) -> bool:
    connection.sendall(answer(body[:-1] + b",}"))
    return True


FAULTS: dict[str, tuple[Fault, str, str]] = {
    # name: what the server does, and stage and reason of the letter
    "500": (_status, "fetch", "http_500"),
    "timeout": (_silence, "fetch", "timeout"),
    "dropped": (_drop, "fetch", "connection"),
    "truncated": (_truncated, "parse", "invalid_json"),
    "malformed": (_malformed, "parse", "invalid_json"),
}


@dataclass
class DatasetServer:
    """`asked` counts the details by slug; `faults` are those that go wrong, and how."""

    records: Mapping[str, bytes]
    faults: dict[str, Fault] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    url: str = ""
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, connection: socket.socket, target: str) -> bool:
        """Answer one request; whether the connection goes on."""
        if found := re.match(r"/datasets/([^/?]+)", target):
            slug = unquote(found[1])
            with self._lock:
                self.asked[slug] += 1
                self._open += 1
                self.most_at_once = max(self.most_at_once, self._open)
            try:
                if slug in self.faults:
                    return self.faults[slug](connection, self.records[slug])
                connection.sendall(answer(self.records[slug]))
                return True
            finally:
                with self._lock:
                    self._open -= 1
        page = re.search(r"[?&]page=(\d+)", target)
        connection.sendall(answer(self._page(int(page[1]) if page else 1)))
        return True

    def _page(self, number: int) -> bytes:
        slugs = list(self.records)
        data: Sequence[Any] = slugs[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        return json.dumps({"data": [{"slug": slug} for slug in data], "total": len(slugs)}).encode()


@contextlib.contextmanager
def dataset_server(records: Mapping[str, bytes]) -> Iterator[DatasetServer]:
    """A server in threads of this process; `records` are the answers by slug."""
    state = DatasetServer(records)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            received, goes_on = b"", True
            with contextlib.suppress(OSError):
                while goes_on:
                    while b"\r\n\r\n" not in received:
                        block = self.request.recv(65536)
                        if not block:
                            return
                        received += block
                    head, received = received.split(b"\r\n\r\n", 1)
                    goes_on = state.handle(self.request, head.split(b" ")[1].decode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()
