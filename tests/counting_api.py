"""The sample API behind a server that counts what it is asked, and keeps whom it is told to waiting."""

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sample_data.api_server import serve

LOW_PAGES = 3


@dataclass
class CountingApi:
    """`asked` are the paths in their order; one that the pattern `holds` is found in waits until `may_go` is set."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    holds: str = "nothing is held"
    is_held: threading.Event = field(default_factory=threading.Event)
    may_go: threading.Event = field(default_factory=threading.Event)
    is_down: bool = False


def _inner_path(path: str) -> str:
    folder, query = path.split("/employees")

    def moved(page: re.Match[str]) -> str:
        number = int(page[2])
        beyond = folder == "/low" and number > LOW_PAGES
        return f"{page[1]}{1000 if beyond else number + LOW_PAGES * (folder == '/high')}"

    return "/employees" + re.sub(r"([?&]page=)(\d+)", moved, query)


@contextmanager
def counting_api() -> Iterator[CountingApi]:
    """A server in threads of this process: /employees of the sample, /low/employees its first pages, /high the rest."""
    state = CountingApi()
    with serve() as inner:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                state.asked.append(self.path)
                if re.search(state.holds, self.path) and not state.may_go.is_set():
                    state.is_held.set()
                    state.may_go.wait(60)
                if state.is_down:
                    self.send_error(503)
                    return
                with urllib.request.urlopen(inner + _inner_path(self.path)) as answer:
                    body = answer.read()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            state.may_go.set()
            server.shutdown()
            thread.join()
            server.server_close()
