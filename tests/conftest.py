"""What tests start from: a batch; where they run the command, a copy of this tree and a database of a real Postgres."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from foundation.settings import Settings
from ingestion.parcels import Batch
from publishing import embedded
from tests.domains import keep_domains
from tests.slow import SLOW
from tests.warm import Warm

ROOT = Path(__file__).parent.parent
NO_TARGET = "postgresql://localhost/unused"  # for commands that publish nothing
LONGEST = 300  # seconds that a command may take
MADE_HERE = {".git", ".venv", ".penstock", "exports", "site", "target", "logs", "tests", ".hypothesis"}


def copy_tree(root: Path, domains: Collection[str] = ("employees",)) -> Path:
    """A copy of this project as a fresh clone has it, with these of its domains."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        made = MADE_HERE if Path(folder) == ROOT else set()
        return {name for name in names if name in made or name == "__pycache__" or name.endswith("_cache")}

    shutil.copytree(ROOT, root, ignore=left_out)
    keep_domains(root, domains)
    return root


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder with a space in its name, and the database that it publishes to."""

    root: Path
    dsn: str

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """`penstock` with these arguments, as its own process."""
        return subprocess.Popen(
            [sys.executable, "-m", "operations.cli", *arguments],
            cwd=self.root,
            env=_environment(self.dsn, environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, is_cold: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        """`penstock` with these arguments, to its end: forked with its imports made, or cold, as a user starts it."""
        if not is_cold and _one_at_a_time.acquire(blocking=False):
            try:
                return _run_warm(list(arguments), self.root, _environment(self.dsn, environment))
            finally:
                _one_at_a_time.release()
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=LONGEST)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def summary(self) -> dict[str, Any]:
        """The machine-readable summary of the last run."""
        return dict(json.loads((self.root / ".penstock" / "last_run.json").read_text()))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the publish target."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement.encode()).fetchall()

    def published(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every published mart, without the times at which it was written."""
        return {
            mart: self.query(
                f"select to_jsonb({mart}) - 'created_at' - 'updated_at' - 'processed_at' from {mart} order by 1"
            )
            for mart in ("employees", "department_headcounts")
        }


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test ARGS=--slow` leaves nothing out."""
    parser.addoption("--slow", action="store_true", help="The tests of tests/slow.py too.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow, unless it was asked for."""
    if config.getoption("--slow"):
        return
    for item in items:
        if f"{item.path.name}::{item.name}" in SLOW:
            item.add_marker(pytest.mark.skip(reason="slow: make test ARGS=--slow"))


_one_at_a_time = threading.Lock()
_parsed: list[Path] = []


@cache
def _warm() -> Warm:
    warm = Warm()
    atexit.register(warm.close)
    return warm


def _run_warm(arguments: list[str], root: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        pid = _warm().start(arguments, root, environment, out, err)
        late = threading.Timer(LONGEST, os.kill, [pid, signal.SIGKILL])
        late.start()
        try:
            code = _warm().wait()
        finally:
            late.cancel()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _environment(dsn: str, changes: Mapping[str, str]) -> dict[str, str]:
    """This process's variables without any that Penstock reads, which a shell may hold."""
    names = {name.upper() for name in Settings.model_fields} | {"API_KEY", "REBUILD_URL"}
    inherited = {key: value for key, value in os.environ.items() if key not in names}
    return inherited | {"DATABASE_URL": dsn} | changes


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real Postgres for the whole session; its connection string."""
    # Not below pytest's own folder: only its user may enter that, and under root the server is another user.
    with tempfile.TemporaryDirectory(prefix="penstock-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield embedded.start(folder)
        embedded.stop(folder)


def create_database(dsn: str, template: str | None = None) -> str:
    """A new database, empty or a copy of another one; its connection string."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        source = sql.SQL(" template {}").format(sql.Identifier(template)) if template else sql.SQL("")
        connection.execute(sql.SQL("create database {}{}").format(sql.Identifier(name), source))
    return psycopg.conninfo.make_conninfo(dsn, dbname=name)


@pytest.fixture
def fresh_project(tmp_path: Path, postgres: str) -> Project:
    """A project that never ran."""
    root = copy_tree(tmp_path / "pen stock")
    for parsed in _parsed:  # what dbt would make of the same models in a third of a run
        (root / "target").mkdir()
        shutil.copy(parsed, root / "target")
    return Project(root, create_database(postgres))


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Project:
    """A project that ran once over the sample data; for looking only."""
    project = Project(copy_tree(tmp_path_factory.mktemp("first") / "pen stock"), create_database(postgres))
    done = project.run("run", is_cold=True)
    assert done.returncode == 0, done.stdout + done.stderr
    _parsed.append(project.root / "target" / "partial_parse.msgpack")
    return project


@pytest.fixture
def project(tmp_path: Path, postgres: str, first_run: Project) -> Project:
    """A project of its own that ran once over the sample data."""
    root = tmp_path / "pen stock"
    shutil.copytree(first_run.root, root)
    return Project(root, create_database(postgres, psycopg.conninfo.conninfo_to_dict(first_run.dsn)["dbname"]))


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """A batch of a first run, for what a reader makes of a file."""
    folder = tmp_path / "parcels"
    folder.mkdir()
    return Batch("run-1", datetime(2026, 1, 2, tzinfo=UTC), folder)
