"""A paged API that is never the bottleneck: `python -m benchmarks.api_server PAGES --page-size N` prints its address.

GET /records?page=2&per_page=N answers with line 2 of the file PAGES, as it stands; past the end with a page of no
records. Every answer is made before the first request. With --failure-rate that share of the requests is answered by
503, evenly spread; a page is refused three times at most. GET /stats tells what was asked for, POST /reset forgets it.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

HOST = "127.0.0.1"
MOST_REFUSALS = 3  # of one page, so that every client that tries again a few times gets all

_PAGE = re.compile(rb"[?&]page=([0-9]{1,9})(?:&|$)")
_PER_PAGE = re.compile(rb"[?&]per_page=([0-9]{1,9})(?:&|$)")


@dataclass
class _State:
    """The answers, the faults, and what has been asked for."""

    answers: Sequence[bytes]
    page_size: int
    failure_rate: float
    latency: float
    refusals_due: float = 0.5
    count_requests: int = 0
    count_refused: int = 0
    bytes_sent: int = 0
    asked_at: dict[int, float] = field(default_factory=dict)
    answered_at: dict[int, float] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)

    def forget(self) -> None:
        """As if nobody had asked for anything yet."""
        fresh = _State(self.answers, self.page_size, self.failure_rate, self.latency)
        self.__dict__.update(fresh.__dict__)

    def is_refused(self, page: int) -> bool:
        """Whether this request gets a 503."""
        self.refusals_due += self.failure_rate
        if self.refusals_due < 1 or self.refused[page] >= MOST_REFUSALS:
            return False
        self.refusals_due -= 1
        self.refused[page] += 1
        self.count_refused += 1
        return True

    def told(self) -> dict[str, Any]:
        """Counts, and for each page that was answered the ms from its first request to the end of its answer."""
        return {
            "requests": self.count_requests,
            "refused": self.count_refused,
            "pages": len(self.answered_at),
            "bytes": self.bytes_sent,
            "latencies_ms": [round(1000 * (at - self.asked_at[page]), 3) for page, at in self.answered_at.items()],
            "seconds": max(self.answered_at.values()) - min(self.asked_at.values()) if self.answered_at else 0.0,
        }


class _Connection(asyncio.Protocol):
    """One client. Requests are answered one after the other, as HTTP/1.1 has it."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._received = b""
        self._page: int | None = None  # whose answer is being sent
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # resume_writing then tells that all has been sent

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def resume_writing(self) -> None:
        self._sent()

    def _next(self) -> None:
        if self._is_waiting or b"\r\n\r\n" not in self._received:
            return
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        method, target, *_ = [*head.split(b"\r\n", 1)[0].split(b" "), b"", b""]
        if target.split(b"?")[0] != b"/records":
            self._transport.write(self._about(method, target))
            self._next()
            return
        self._is_waiting = True
        now, state = time.perf_counter(), self._state
        state.count_requests += 1
        per_page, page = _PER_PAGE.search(target), _PAGE.search(target)
        number = int(page[1]) if page else 1
        if per_page is None or int(per_page[1]) != state.page_size:
            self._write(_answer(400, f'{{"error": "per_page is {state.page_size} here"}}'.encode()), None)
            return
        state.asked_at.setdefault(number, now)
        if state.is_refused(number):
            answer, number = _answer(503, b'{"error": "busy"}'), 0
        else:
            answer = state.answers[number - 1 if 0 < number < len(state.answers) else -1]
        if state.latency:
            asyncio.get_running_loop().call_later(state.latency, self._write, answer, number or None)
        else:
            self._write(answer, number or None)

    def _write(self, answer: bytes, page: int | None) -> None:
        self._page = page
        self._transport.write(answer)
        self._state.bytes_sent += len(answer)
        if self._transport.get_write_buffer_size() == 0:
            self._sent()

    def _sent(self) -> None:
        if self._page is not None:
            self._state.answered_at.setdefault(self._page, time.perf_counter())
        self._page, self._is_waiting = None, False
        self._next()

    def _about(self, method: bytes, target: bytes) -> bytes:
        if (method, target) == (b"GET", b"/stats"):
            return _answer(200, json.dumps(self._state.told()).encode())
        if (method, target) == (b"POST", b"/reset"):
            self._state.forget()
            return _answer(200, b"{}")
        return _answer(404, b'{"error": "see /records"}')


def _answer(status: int, body: bytes) -> bytes:
    reason = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answers(pages: Path) -> list[bytes]:
    """The whole answer of every page, and at the end that of a page past the end."""
    bodies = pages.read_bytes().splitlines()
    totals = json.loads(bodies[-1])
    empty = {"data": [], "page": None, "total": totals["total"], "total_pages": totals["total_pages"]}
    return [_answer(200, body) for body in [*bodies, json.dumps(empty).encode()]]


async def _serve(state: _State, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(state), HOST, port, backlog=256)
    sys.stdout.write(f"http://{HOST}:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # Standard input closes when whoever started this process ends, however that comes about.
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


@contextmanager
def serve(pages: Path, page_size: int, *, failure_rate: float = 0.0, latency: float = 0.0) -> Iterator[str]:
    """The base address of a server of its own process, which ends with the context; `latency` is in seconds."""
    import subprocess

    from benchmarks.measure import ROOT

    command = [sys.executable, "-m", "benchmarks.api_server", str(pages), "--page-size", str(page_size)]
    command += ["--failure-rate", str(failure_rate), "--latency-ms", str(latency * 1000)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"the API of {pages} did not start")
            yield address
        finally:
            with suppress(OSError):
                process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input is closed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_server", description=__doc__)
    parser.add_argument("pages", type=Path, help="the body of a page on each line")
    parser.add_argument("--page-size", type=int, required=True, help="the one per_page that is served")
    parser.add_argument("--failure-rate", type=float, default=0.0, help="share of requests answered by 503")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="how long an answer is held back")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args(arguments)
    state = _State(_answers(options.pages), options.page_size, options.failure_rate, options.latency_ms / 1000)
    asyncio.run(_serve(state, options.port))


if __name__ == "__main__":
    main()
