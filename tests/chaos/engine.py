"""The small worlds that faults happen in: a project in a folder of its own, its warehouse, its publish target."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from publishing import embedded
from tests.chaos import people
from tests.chaos.people import Files
from tests.fault_server import FaultServer, fault_server
from tests.warm import Warm

ROOT = Path(__file__).parents[2]
TEMPLATE = Path(__file__).parent / "project"
IN_MEMORY = Path("/dev/shm")
# What every project needs; the small models and suites come on top.
NEEDED = (
    "dbt_project.yml",
    "profiles.yml",
    "dbt_project/macros",
    "dbt_project/plugins",
    "dbt_project/tests/generic",
    "dbt_project/models/staging/ingestion",
    *(f"expectations/{name}.py" for name in ("__init__", "checks", "duckdb_engine", "gates", "history", "measure")),
    *(f"expectations/suites/{name}.py" for name in ("__init__", "_marts", "_raw", "loads")),
)
LONGEST_RUN = 120.0  # seconds; a run that takes longer hangs
Kind = Literal["duckdb", "postgres"]
State = Literal["first", "incremental"]


@dataclass(frozen=True)
class Round:
    """One case: what was done, how many faults that were, and what the oracle found wrong."""

    case: str
    problems: list[str]
    faults: int = 1


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    seconds: float

    @property
    def told(self) -> str:
        """The end of what it said, on one line."""
        return f"exit code {self.code}: {' '.join(self.output.split())[-400:]}"


class Running:
    """A command that goes on; it is ended where it takes too long."""

    def __init__(self, pid: int, wait: Callable[[], int], output: Path, longest: float) -> None:
        self.pid, self._wait, self._output = pid, wait, output
        self._started = time.monotonic()
        self._is_late = False
        self._timer = threading.Timer(longest, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        self._is_late = True
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal, where the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> Done:
        """How it ended."""
        code = self._wait()
        self._timer.cancel()
        output = self._output.read_text(errors="replace")
        if self._is_late:
            code, output = 999, f"{output} HANGS: ended after {time.monotonic() - self._started:.0f} s"
        return Done(code, output, time.monotonic() - self._started)


@dataclass
class World:
    """A project, where it publishes to, and the warehouse where that is a Postgres database."""

    engine: "Engine"
    root: Path
    dsn: str
    warehouse_url: str | None
    files: Files

    @property
    def inbox(self) -> Path:
        """Where the files of its sources lie."""
        return self.root / "inbox"

    @property
    def work_dir(self) -> Path:
        """Its state."""
        return self.root / ".penstock"

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        """What a command sees: this tree's code, this world's databases."""
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
        found = {name: os.environ[name] for name in kept if name in os.environ}
        found |= {
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": self.dsn,
            "CHAOS_API": f"http://127.0.0.1:{self.engine.api.port}",
            "CHAOS_FOLDER": str(self.root),
            "DBT_WRITE_JSON": "false",  # nobody reads its manifest here, and writing it takes a third of a build
        }
        if self.warehouse_url:
            found["WAREHOUSE_URL"] = self.warehouse_url
        if self.engine.without:
            found["CHAOS_WITHOUT"] = self.engine.without
        return found | changes

    def start(self, *arguments: str, is_cold: bool = False, longest: float = LONGEST_RUN, **changes: str) -> Running:
        """`penstock` with these arguments: forked from the warm process, or started as a user does."""
        output = self.engine.folder / f"{uuid.uuid4().hex}.out"
        output.touch()
        environment = self.environment(changes)
        if is_cold or self.engine.is_cold:
            command = [sys.executable, "-m", "tests.chaos.launch", *arguments]
            with output.open("ab") as out:
                process = subprocess.Popen(
                    command, cwd=self.root, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
            return Running(process.pid, process.wait, output, longest)
        warm = self.engine.warm
        return Running(warm.start(list(arguments), self.root, environment, output), warm.wait, output, longest)

    def run(self, *arguments: str, is_cold: bool = False, longest: float = LONGEST_RUN, **changes: str) -> Done:
        """The same to its end."""
        return self.start(*arguments, is_cold=is_cold, longest=longest, **changes).wait()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the publish target."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def clone(self) -> "World":
        """The same world once more."""
        root = self.engine.folder / uuid.uuid4().hex[:12]
        shutil.copytree(self.root, root)
        files = Files({name: list(lines) for name, lines in self.files.lines.items()}, set(self.files.removed))
        dsn = self.engine.database(self.dsn)
        url = self.engine.url_of(self.engine.database(self.warehouse_url)) if self.warehouse_url else None
        return World(self.engine, root, dsn, url, files)

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.engine.drop(self.dsn)
        if self.warehouse_url:
            self.engine.drop(self.warehouse_url)


@dataclass
class Engine:
    """What all worlds share: a Postgres server, an API that can break, the warm process."""

    folder: Path
    postgres_dir: Path
    postgres: str
    api: FaultServer
    stack: ExitStack
    seed: int
    is_cold: bool = False
    # The guard that every process does without (tests/chaos/guards.py).
    without: str | None = None
    _warm: Warm | None = None
    _bases: dict[tuple[Kind, State], World] = field(default_factory=dict)

    @property
    def warm(self) -> Warm:
        """The process that commands are forked from, started when first asked for."""
        if self._warm is None:
            self._warm = Warm("tests.chaos.launch")
            self.stack.callback(self._warm.close)
        return self._warm

    def second_warm(self) -> Warm:
        """One more, for two commands at once."""
        warm = Warm("tests.chaos.launch")
        self.stack.callback(warm.close)
        return warm

    def chance(self, *parts: object) -> random.Random:
        """Random numbers that the seed and the parts decide."""
        return random.Random(":".join(map(str, (self.seed, *parts))))

    def database(self, template: str | None = None) -> str:
        """A new database, empty or a copy; its connection string."""
        name = f"chaos_{uuid.uuid4().hex[:12]}"
        source = sql.SQL("")
        if template:
            held = str(psycopg.conninfo.conninfo_to_dict(template)["dbname"])
            source = sql.SQL(" template {}").format(sql.Identifier(held))
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            for attempt in range(50):  # a session that was just killed may still be on the template
                try:
                    connection.execute(sql.SQL("create database {}{}").format(sql.Identifier(name), source))
                    break
                except psycopg.errors.ObjectInUse:
                    if attempt == 49:
                        raise
                    time.sleep(0.1)
        return psycopg.conninfo.make_conninfo(self.postgres, dbname=name)

    def drop(self, dsn: str) -> None:
        """Remove a database."""
        name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    @staticmethod
    def url_of(dsn: str) -> str:
        """A connection string as WAREHOUSE_URL takes it."""
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        host = quote(str(parts["host"]), safe="")
        return f"postgresql://{parts['user']}@/{parts['dbname']}?host={host}&port={parts['port']}"

    def world(self, kind: Kind, files: Files) -> World:
        """A project that never ran."""
        root = self.folder / uuid.uuid4().hex[:12]
        make_project(root)
        url = self.url_of(self.database()) if kind == "postgres" else None
        world = World(self, root, self.database(), url, files)
        for name in files.lines:
            files.write(world.inbox, name)
        return world

    def base(self, kind: Kind, state: State) -> World:
        """The world that rounds start from, made once: before its first run, or before its second, with new files."""
        if (kind, state) not in self._bases:
            chance = self.chance("files")
            first = people.first_files(chance)
            if state == "first":
                self._bases[kind, state] = self.world(kind, first)
            else:
                world = self.base(kind, "first").clone()
                done = world.run("run")
                if done.code:
                    raise RuntimeError(f"the undisturbed first run failed: {done.told}")
                world.files = people.next_files(world.files, self.chance("next files"))
                for name in world.files.lines:
                    world.files.write(world.inbox, name)
                self._bases[kind, state] = world
        return self._bases[kind, state]


def make_project(root: Path) -> None:
    """The small project: three sources, two marts."""
    for name in NEEDED:
        original, copy = ROOT / name, root / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if original.is_dir():
            shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(original, copy)
    shutil.copytree(TEMPLATE, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


@contextlib.contextmanager
def engine(seed: int, *, is_cold: bool = False) -> Iterator[Engine]:
    """Everything that worlds need, and nothing left when it ends."""
    base = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 2**31 else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", dir=base)))
        folder.chmod(0o755)
        server = folder / "server"
        server.mkdir(mode=0o755)
        dsn = embedded.start(server)
        stack.callback(embedded.stop, server)
        api = stack.enter_context(fault_server())
        yield Engine(folder, server, dsn, api, stack, seed, is_cold)
