"""The whole run when something goes wrong: kills, two runs at once, mistakes, a warehouse that is open elsewhere."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Project

EXPECTED = json.loads((ROOT / "sample_data" / "employees" / "expected.json").read_text())


@pytest.mark.parametrize("stage", ["ingest", "build", "publish"])
def test_a_killed_run_is_made_good_by_the_next(fresh_project: Project, first_run: Project, stage: str) -> None:
    process = fresh_project.start("run")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"{stage} started"):
            time.sleep({"ingest": 0.7, "build": 0.8, "publish": 0.05}[stage])
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    done = fresh_project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fresh_project.published() == first_run.published()
    assert "was cut off" in done.stdout
    assert fresh_project.summary["is_balanced"]


def test_two_runs_at_once_do_not_meet(project: Project) -> None:
    first = project.start("run")
    assert first.stdout is not None
    first.stdout.readline()
    started = time.monotonic()
    second = project.run("run")
    assert second.returncode == 3
    assert "another run is going" in second.stderr
    assert time.monotonic() - started < 30
    assert first.wait(timeout=120) == 0


def _edit(project: Project, old: str, new: str) -> None:
    file = project.root / "penstock.yml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


FAULTS = [
    # what is edited in penstock.yml, environment, exit code, words of the error line
    (("hr_*.csv", "nothing_*.csv"), {}, 4, ["no file is there", "nothing_*.csv"]),
    (("columns:", "colums:"), {}, 2, ["unknown key", "did you mean columns", "line"]),
    (("key: [id]", "key: [no_such]"), {}, 2, ["no_such", "employees"]),
    ((), {"API_BASE_URL": "http://127.0.0.1:9", "MAX_RETRIES": "1"}, 4, ["cannot reach the API", "talent"]),
    ((), {"DATABASE_URL": "postgresql://u:hush@127.0.0.1:9/d"}, 7, ["127.0.0.1"]),
    ((), {"DATABASE_URL": "no such thing"}, 2, ["DATABASE_URL"]),
    ((), {"BATCH_SIZE": "-1"}, 2, ["BATCH_SIZE", "-1"]),
]


def test_a_fault_is_one_line_and_the_next_run_goes_on(project: Project) -> None:
    before, settings = project.published(), (project.root / "penstock.yml").read_text()
    for edit, environment, code, words in FAULTS:
        if edit:
            _edit(project, *edit)
        done = project.run("run", **environment)
        told = f"{edit} {environment}: {done.stdout}{done.stderr}"
        assert done.returncode == code, told
        assert all(word in done.stderr for word in words), told
        assert "hush" not in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1, told
        assert project.published() == before, told
        (project.root / "penstock.yml").write_text(settings)
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    # Their loads stayed open until this run closed them; the run after it has only its own.
    assert project.summary["totals"]["loaded"] == 0
    done = project.run("run")
    assert project.summary["totals"]["read"] == EXPECTED["files"]["talent.json"]["read"]


def test_a_warehouse_open_elsewhere_is_told(project: Project) -> None:
    warehouse = project.root / ".penstock" / "warehouse.duckdb"
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    done = project.run("run")
    assert done.returncode == 3
    assert f"process {holder.pid}" in done.stderr
    holder.communicate("\n")
    assert project.run("run").returncode == 0


def test_a_folder_that_cannot_be_written_is_told(project: Project, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = project.run("run", WORK_DIR=str(blocked / "work"))
    assert done.returncode == 9
    assert str(blocked / "work") in done.stderr


def test_a_source_tried_once_and_removed_does_not_hold_the_release(project: Project) -> None:
    file = project.root / "penstock.yml"
    settings = file.read_text()
    (project.root / "orders.csv").write_text("id\n1\n2\n")
    _edit(project, "\nsources:\n", "\nsources:\n  shop__orders: {type: csv, path: orders.csv}\n")
    assert project.run("ingest").returncode == 0
    file.write_text(settings)
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    told = "shop__orders is not in penstock.yml any more; its 2 records stay in raw and are in no mart"
    assert done.stdout.count(told) == 1
    assert "shop__orders" not in [source["source"] for source in project.summary["sources"]]
    # Declared again, it is missed again.
    _edit(project, "\nsources:\n", "\nsources:\n  shop__orders: {type: csv, path: orders.csv}\n")
    done = project.run("run")
    assert done.returncode == 8, done.stdout + done.stderr
    assert "shop__orders: 2 loaded, but no outcomes model counts them" in done.stderr
