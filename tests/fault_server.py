"""An HTTP server on a bare socket that serves pages and breaks where it is told to, in ways no framework allows."""

import contextlib
import gzip
import json
import re
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

LAST_PAGE = 5
PAGE_SIZE = 2


def page_body(number: int, **changes: object) -> bytes:
    """The answer for a page: two records, the last page one, empty ones beyond."""
    first = PAGE_SIZE * (number - 1)
    count = PAGE_SIZE if number < LAST_PAGE else 1 if number == LAST_PAGE else 0
    records = [{"id": first + index, "name": "José"} for index in range(count)]
    return json.dumps(
        {"data": records, "total": PAGE_SIZE * (LAST_PAGE - 1) + 1, **changes}, ensure_ascii=False
    ).encode()


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole answer as it goes over the wire; `length` -1 leaves Content-Length out."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(line.startswith("Content-Type") for line in lines):
        lines.append("Content-Type: application/json")
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class FaultServer:
    """Serves /people?page=N on 127.0.0.1. What `faults` names for a page is done `times` often before it answers."""

    faults: dict[int, Callable[[socket.socket, int], None]] = field(default_factory=dict)
    times: int = 1_000_000
    asked: Counter[int] = field(default_factory=Counter)
    port: int = 0

    def handle(self, connection: socket.socket, number: int) -> None:
        """Answer one request."""
        self.asked[number] += 1
        fault = self.faults.get(number)
        if fault is not None and self.asked[number] <= self.times:
            fault(connection, number)
        else:
            connection.sendall(answer(page_body(number)))


class _Closed(Exception):  # noqa: N818 - no error: the fault is done
    """The connection ends here."""


def close(connection: socket.socket, *, reset: bool = False) -> None:
    """End the connection, without a goodbye when `reset`."""
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise _Closed


@contextlib.contextmanager
def fault_server() -> Iterator[FaultServer]:
    """A server in threads of this process."""
    state = FaultServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            received = b""
            with contextlib.suppress(OSError, _Closed):
                while True:
                    while b"\r\n\r\n" not in received:
                        block = self.request.recv(65536)
                        if not block:
                            return
                        received += block
                    head, received = received.split(b"\r\n\r\n", 1)
                    found = re.search(rb"page=(\d+)", head)
                    state.handle(self.request, int(found.group(1)) if found else 1)
            self.request.close()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
            """Close at once; the base class would say goodbye first."""
            assert isinstance(request, socket.socket)
            request.close()

    with Server(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


# What a server does wrong, by name


def _send(*headers: str, status: str = "200 OK", body: bytes | None = None) -> Callable[[socket.socket, int], None]:
    def fault(connection: socket.socket, number: int) -> None:
        connection.sendall(answer(page_body(number) if body is None else body, *headers, status=status))

    return fault


def _cut(make: Callable[[int], bytes], *, reset: bool = False) -> Callable[[socket.socket, int], None]:
    def fault(connection: socket.socket, number: int) -> None:
        connection.sendall(make(number))
        close(connection, reset=reset)

    return fault


def _drip(connection: socket.socket, number: int) -> None:
    whole = answer(page_body(number))
    for place in range(len(whole)):
        connection.sendall(whole[place : place + 1])
        time.sleep(0.05)


def _drip_head(connection: socket.socket, _: int) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _piece in range(100):
        connection.sendall(b"x")
        time.sleep(0.05)
    close(connection)


def _silent(connection: socket.socket, _: int) -> None:
    time.sleep(1)
    close(connection)


def _other_page(connection: socket.socket, number: int) -> None:
    connection.sendall(answer(page_body(number - 1 or 2)))


def _chunked(number: int) -> bytes:
    body = page_body(number)[:-9]
    return answer(b"%x\r\n" % len(body) + body + b"\r\n", "Transfer-Encoding: chunked", length=-1)


def _short_gzip(connection: socket.socket, number: int) -> None:
    connection.sendall(answer(gzip.compress(page_body(number))[:-12], "Content-Encoding: gzip"))


def _bomb(connection: socket.socket, _: int) -> None:
    connection.sendall(answer(gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip"))


def _huge(connection: socket.socket, _: int) -> None:
    connection.sendall(answer(b"", length=-1))
    for _piece in range(200):
        connection.sendall(b" " * 65536)
    close(connection)


def _total_shrinks(connection: socket.socket, number: int) -> None:
    connection.sendall(answer(page_body(number, total=8 if number > 1 else 20)))


# May go well when it is tried again.
PASSING: dict[str, Callable[[socket.socket, int], None]] = {
    "429 with Retry-After": _send("Retry-After: 0", status="429 Too Many"),
    "429 with a date": _send("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", status="429 Too Many"),
    "429": _send(status="429 Too Many"),
    "500": _send(status="500 Broken"),
    "503 with a senseless Retry-After": _send("Retry-After: soon", status="503 Busy"),
    "reset before the answer": _cut(lambda _: b"", reset=True),
    "closed before the answer": _cut(lambda _: b""),
    "reset inside the body": _cut(lambda number: answer(page_body(number))[:-9], reset=True),
    "closed inside the body": _cut(lambda number: answer(page_body(number))[:-9]),
    "closed inside the head": _cut(lambda number: answer(page_body(number))[:30]),
    "cut chunks": _cut(_chunked),
    "cut without a length": _cut(lambda number: answer(page_body(number), length=-1)[:-9]),
    "cut gzip": _short_gzip,
    "damaged gzip": _send("Content-Encoding: gzip", body=b"\x1f\x8b\x08\x00 what is this"),
    "no HTTP": _cut(lambda _: b"\x00\x01garbage\r\n\r\n"),
    "no answer": _silent,
    "dripping head": _drip_head,
    "dripping body": _drip,
    "truncated JSON": lambda connection, number: connection.sendall(answer(page_body(number)[:-9])),
    "malformed JSON": _send(body=b'{"data": [{"id": 1,}], "total": 9}'),
    "JSON with more after it": lambda connection, number: connection.sendall(answer(page_body(number) + b"]")),
    "nothing": _send(body=b""),
    "HTML": _send("Content-Type: text/html", body=b"<html>please log in</html>"),
    "wrong charset": lambda connection, number: connection.sendall(
        answer(page_body(number).decode().encode("latin-1"), "Content-Type: application/json; charset=utf-8")
    ),
}
# Stays as it is.
LASTING: dict[str, Callable[[socket.socket, int], None]] = {
    "404": _send(status="404 Gone", body=b"no such page"),
    "204": _send(status="204 No Content", body=b""),
    "error as JSON": _send(body=b'{"error": "quota exceeded"}'),
    "error as JSON with no records": _send(body=b'{"data": [], "total": 9, "errors": ["quota exceeded"]}'),
    "an object in place of records": _send(body=b'{"data": {"id": 1}}'),
    "another page": _other_page,
    "an empty page": _send(body=b'{"data": [], "total": 9}'),
    "a redirect to another host": _send("Location: http://192.0.2.1/people", status="302 Found"),
    "a redirect to nowhere": _send("Location: http://[::bad/", status="302 Found"),
    "a body without end": _huge,
    "an announced huge body": _cut(lambda _: answer(b"", length=5_000_000_000)),
    "a packed huge body": _bomb,
    "packed in an unknown way": _send("Content-Encoding: br", body=b"what"),
    "a total that shrinks": _total_shrinks,
    "no total": _send(body=b'{"data": [{"id": 77}]}'),
}
# Odd, and yet every record is there.
HARMLESS: dict[str, Callable[[socket.socket, int], None]] = {
    "wrong content type": _send("Content-Type: text/html"),
    "gzip that nobody asked for": lambda connection, number: connection.sendall(
        answer(gzip.compress(page_body(number)), "Content-Encoding: gzip")
    ),
    "a byte order mark": lambda connection, number: connection.sendall(answer(b"\xef\xbb\xbf" + page_body(number))),
    "another charset, as declared": lambda connection, number: connection.sendall(
        answer(page_body(number).decode().encode("latin-1"), "Content-Type: application/json; charset=iso-8859-1")
    ),
    "ended by the connection": _cut(lambda number: answer(page_body(number), length=-1)),
    "closed after each answer": _cut(lambda number: answer(page_body(number), "Connection: close")),
}
