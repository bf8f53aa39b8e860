"""7. Postgres in the midst of a publish: killed, its session ended, a lock kept, the reply to the commit lost."""

import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg

from foundation.errors import LockedError, PublishError
from foundation.events import Event
from publishing import embedded
from tests.chaos.context import Context
from tests.chaos.engine import Round
from tests.integration.test_publish_faults import CutAtCommit, ask, go, put_version, session, warehouse_of

TITLE = "Postgres in the midst of a publish"
FAULTS = ("killed", "ended", "locked", "reply lost", "commit lost")
MOMENTS = ("started orders", "progressed orders", "started totals", "progressed totals")
ROWS = 100


class _Place:
    """A server of its own with a database, and a warehouse whose marts hold one version each."""

    def __init__(self, folder: Path) -> None:
        self.server_dir = folder / "server"
        self.server_dir.mkdir(mode=0o755)
        self.folder = folder
        self.dsn = embedded.start(self.server_dir)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("create database test")
        self.dsn = self.dsn.replace("/postgres?", "/test?")
        self.warehouse = folder / "warehouse.duckdb"
        shutil.copy(warehouse_of(folder, 1), self.warehouse)
        go(self.warehouse, self.dsn)
        self.version = 1

    def shown(self) -> list[tuple[int, int]]:
        """Version and number of rows that readers see, over both marts."""
        query = "select version, count(*) from (select version from orders union all select version from totals) as t"
        return ask(self.dsn, f"{query} group by version order by version")


def rounds(context: Context) -> Iterator[Round]:
    """As many of each fault, at moments of chance."""
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=context.engine.folder))
    folder.chmod(0o755)
    place = _Place(folder)
    try:
        for number in range(context.count(100, 5)):
            fault = FAULTS[number % len(FAULTS)]
            chance = context.engine.chance("postgres", number)
            yield Round(f"{number} {fault}", _round(place, fault, chance))
    finally:
        embedded.stop(place.server_dir)
        shutil.rmtree(folder, ignore_errors=True)


def _whole(version: int) -> list[tuple[int, int]]:
    return [(version, 2 * (ROWS - version % 3))]


def _round(place: _Place, fault: str, chance: random.Random) -> list[str]:
    before, place.version = place.version, place.version + 1
    put_version(place.warehouse, place.version)
    problems = []
    started = time.monotonic()
    try:
        _FAULTS[fault](place, chance)
        is_acknowledged = True
    except (PublishError, LockedError):
        is_acknowledged = False
    if time.monotonic() - started > 60:
        problems.append(f"it took {time.monotonic() - started:.0f} s")
    embedded.start(place.server_dir)
    shown = place.shown()
    if shown not in (_whole(before), _whole(place.version)):
        problems.append(f"readers see {shown}")
    if is_acknowledged and shown != _whole(place.version):
        problems.append("a publish that was acknowledged is lost")
    if fault == "reply lost" and not is_acknowledged:
        problems.append("a release that was made is told as none")
    if fault == "commit lost" and is_acknowledged:
        problems.append("a release that was not made is told as one")
    go(place.warehouse, place.dsn)
    if place.shown() != _whole(place.version):
        problems.append(f"after the rerun readers see {place.shown()}")
    if go(place.warehouse, place.dsn).is_new:
        problems.append("a publish of the same makes a release")
    return problems


def _at(moment: str, act: object) -> object:
    done = threading.Event()

    def emit(event: Event) -> None:
        if f"{event.name} {event.source}" == moment and not done.is_set():
            done.set()
            act()  # type: ignore[operator]

    return emit


def _killed(place: _Place, chance: random.Random) -> None:
    def kill() -> None:
        postmaster = int((embedded.data_folder(place.server_dir) / "postmaster.pid").read_text().splitlines()[0])
        others = [pid for (pid,) in ask(place.dsn, "select pid from pg_stat_activity where pid <> pg_backend_pid()")]
        for pid in (postmaster, *others):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while embedded.is_running(place.server_dir):
            time.sleep(0.01)

    go(place.warehouse, place.dsn, emit=_at(chance.choice(MOMENTS), kill))  # type: ignore[arg-type]


def _ended(place: _Place, chance: random.Random) -> None:
    """At any moment, so mostly in the midst of a statement."""

    def end() -> None:
        time.sleep(chance.uniform(0, 0.12))
        with suppress(psycopg.Error):
            ask(place.dsn, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'penstock'")

    thread = threading.Thread(target=end)
    thread.start()
    try:
        go(place.warehouse, place.dsn)
    finally:
        thread.join()


def _locked(place: _Place, chance: random.Random) -> None:
    table = chance.choice(("orders", "totals"))
    mode = chance.choice(("access exclusive", "share row exclusive", "row exclusive"))
    with session(place.dsn, f"lock table {table} in {mode} mode"):
        go(place.warehouse, place.dsn, seconds=0.3)


def _cut(place: _Place, *, is_delivered: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="p", dir=place.folder))
    host = psycopg.conninfo.conninfo_to_dict(place.dsn)["host"]
    between = CutAtCommit(folder, f"{host}/.s.PGSQL.5432", is_delivered=is_delivered)
    try:
        go(place.warehouse, f"postgresql://postgres@/test?host={folder}&port=5432")
    finally:
        between.listener.close()
        shutil.rmtree(folder, ignore_errors=True)


_FAULTS = {
    "killed": _killed,
    "ended": _ended,
    "locked": _locked,
    "reply lost": lambda place, _: _cut(place, is_delivered=True),
    "commit lost": lambda place, _: _cut(place, is_delivered=False),
}
