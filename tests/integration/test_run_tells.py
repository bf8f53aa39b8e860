"""What the command tells of an ingest alone: dead letters, failures, signals, and a root without models."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from operations.status import print_partitions
from tests.conftest import NO_TARGET, ROOT, Project


class Command:
    """`penstock` on a folder that holds a penstock.yml and nothing else of the project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "in").mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command as its own process."""
        return subprocess.Popen(
            [sys.executable, "-m", "operations.cli", "--root", str(self.root), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        return Project(ROOT, NO_TARGET).run("--root", str(self.root), *arguments)

    @property
    def summary(self) -> dict[str, Any]:
        """The machine-readable summary of the last run."""
        return dict(json.loads((self.root / ".penstock" / "last_run.json").read_text()))

    @property
    def page(self) -> str:
        """The first page of the report site."""
        return (self.root / "site" / "index.html").read_text()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def _settings(command: Command, sources: str) -> None:
    (command.root / "penstock.yml").write_text(f"sources:\n{sources}")


def test_dead_letters_are_told_with_reason_and_place_and_without_content(command: Command) -> None:
    _settings(command, "  hr__x: {type: csv, path: in/people.csv}\n")
    (command.root / "in" / "people.csv").write_bytes(b"id,name\n1,Ada\n2,Hush\xff\n3,Hush\xff\n")
    done = command.run("ingest")
    assert done.returncode == 0, done.stderr
    run_id = command.summary["run_id"]
    assert "hr__x: 2 not_utf8, first in/people.csv line 3: byte 0xff is not valid UTF-8" in done.stdout
    assert f"penstock deadletters list --run {run_id}" in done.stdout
    (letter,) = command.summary["dead_letters"]
    assert (letter["source"], letter["reason"], letter["records"]) == ("hr__x", "not_utf8", 2)
    assert (letter["location"], letter["line"], letter["page"]) == ("in/people.csv", 3, None)
    assert "byte 0xff is not valid UTF-8" in command.page
    assert "Hush" not in done.stdout + json.dumps(command.summary) + command.page


def test_the_page_of_an_ingest_alone_shows_its_sources_and_failures(command: Command) -> None:
    _settings(
        command,
        "  hr__x: {type: csv, path: in/people.csv}\n"
        "  hr__y: {type: csv, path: in/gone.csv}\n  hr__z: {type: csv, path: in/lost.csv}\n",
    )
    (command.root / "in" / "people.csv").write_text("id,name\n" + "1,Ada\n" * 1234)
    done = command.run("ingest")
    assert done.returncode == 4, done.stderr
    assert "ingest partial in" in done.stdout
    assert "Read by source" in command.page
    assert '<td class="num">1,234</td>' in command.page
    assert command.page.count("<li>") == 2


def test_a_signal_amid_a_long_file_leaves_the_counts_of_what_landed(command: Command) -> None:
    _settings(command, "  hr__x: {type: csv, path: in/people.csv}\n")
    (command.root / "in" / "people.csv").write_text("id,name\n" + ("1,Ada" + "a" * 30 + "\n") * 6_000_000)
    process = command.start("ingest")
    packed = command.root / ".penstock" / "warehouse.duckdb"
    deadline = time.monotonic() + 60
    while not (packed.exists() and packed.stat().st_size > 5_000_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "KeyboardInterrupt" not in out + err
    assert "ingest failed: stopped by a signal" in out
    logged = (command.root / ".penstock" / "logs" / "errors.log").read_text()
    assert "stopped by a signal" in logged
    assert "KeyboardInterrupt" not in logged
    with duckdb.connect(str(packed)) as connection:
        landed = connection.execute(
            "select sum(records_read) from raw.loads where _dlt_load_id in (select load_id from raw._dlt_loads)"
        ).fetchall()[0][0]
    assert 0 < landed < 6_000_000
    assert command.summary["totals"]["read"] == landed
    (run,) = json.loads(command.run("status", "--json").stdout)
    assert run["summary"]["totals"]["loaded"] == landed
    (partition,) = json.loads(command.run("status", "--partitions", "--json").stdout)
    assert (partition["state"], partition["counts"]["read"]) == ("interrupted", landed)
    assert f"{landed:,} read" in out


@pytest.mark.parametrize("arguments", [["run"], ["build"], ["gate"], ["publish"], ["docs"], ["run", "--dry-run"]])
def test_a_root_without_models_is_told_what_is_missing(command: Command, arguments: list[str]) -> None:
    _settings(command, "  hr__x: {type: csv, path: in/people.csv}\n")
    (command.root / "in" / "people.csv").write_text("id\n1\n")
    done = command.run(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    told = done.stdout + done.stderr
    assert f"there is no dbt_project.yml, so nothing can be built or judged ({command.root}): copy" in told
    assert "only `penstock ingest` works" in told
    assert not (command.root / ".penstock" / "warehouse.duckdb").exists()


def test_an_ingest_of_which_no_source_succeeded_failed(command: Command) -> None:
    _settings(command, "  x__bad: {type: csv, path: in/gone.csv}\n")
    done = command.run("ingest")
    assert done.returncode == 4
    assert "ingest failed in" in done.stdout
    assert command.summary["status"] == "failed"
    (line,) = [line for line in command.run("status", "--partitions").stdout.splitlines() if line.startswith("x__bad:")]
    assert line.startswith("x__bad: no file is there")


def test_a_pipe_that_nobody_reads_and_a_signal_end_a_command_in_silence(command: Command) -> None:
    _settings(command, "  hr__x: {type: csv, path: in/people.csv}\n")
    process = command.start("schema")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 1)
    site = command.root / "site"
    site.mkdir()
    (site / "index.html").touch()
    # A shell's background jobs, this process maybe among them, are to go on at Ctrl-C.
    is_deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    for number in (signal.SIGTERM,) if is_deaf else (signal.SIGINT, signal.SIGTERM):
        process = command.start("serve", "--port", "0")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        assert (process.communicate(timeout=60), process.returncode) == (("", ""), 130)


def test_status_names_a_source_once(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"source": "x__bad", "state": "failed", "seconds": 1.0, "counts": {}, "run_id": "r1"}
    rows = [{**row, "partition": part, "error": "x__bad: gone"} for part in ("", "a.csv")]
    print_partitions(rows, Console(width=140))
    assert capsys.readouterr().out.splitlines()[-2:] == ["x__bad: gone", "x__bad a.csv: gone"]
