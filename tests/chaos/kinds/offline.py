"""14. Nobody outside is asked: every connection and every look-up of all processes is watched while a run goes on."""

from collections.abc import Iterator
from pathlib import Path

from tests.chaos import oracle
from tests.chaos.context import Context
from tests.chaos.engine import ROOT, Kind, Round

TITLE = "nobody outside is asked"
# Python imports a module of this name at every start, so that the workers are watched too.
WATCHER = """
import os, sys

def watch(event, arguments):
    outside = None
    if event == "socket.connect" or event == "socket.sendto":
        address = arguments[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1")):
            outside = f"{event} {address}"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        if arguments[0] not in (None, "", "localhost", "127.0.0.1", "::1"):
            outside = f"{event} {arguments[0]}"
    if outside:
        descriptor = os.open(os.environ["OUTSIDE_LOG"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(descriptor, f"{outside}\\n".encode())
        os.close(descriptor)
        raise OSError("outside")

sys.addaudithook(watch)
"""


def rounds(context: Context) -> Iterator[Round]:
    """A run on each warehouse, with every process started anew; and one whose API is outside, to watch the watcher."""
    kinds: tuple[Kind, ...] = ("duckdb",) if context.is_short else ("duckdb", "postgres")
    for kind in kinds:
        world = context.engine.base(kind, "first").clone()
        try:
            watcher, log = world.root / "watcher", world.root / "outside.log"
            watcher.mkdir()
            (watcher / "sitecustomize.py").write_text(WATCHER)
            watched = {"PYTHONPATH": f"{watcher}:{ROOT}", "OUTSIDE_LOG": str(log)}
            done = world.run("run", is_cold=True, **watched)
            problems = [f"the run failed: {done.told}"] if done.code else oracle.check(world)
            problems += _said(log)
            yield Round(f"a run, {kind}", problems, 0)
            if kind == "duckdb":
                world.run("ingest", is_cold=True, **watched, CHAOS_API="http://192.0.2.1")
                yield Round("the watcher watches", [] if _said(log) else ["an API outside was not noticed"], 0)
        finally:
            world.remove()


def _said(log: Path) -> list[str]:
    return log.read_text().splitlines()[:5] if log.exists() else []
