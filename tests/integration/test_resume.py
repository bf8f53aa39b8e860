"""`penstock run --resume` after real kills and failures: one run id, one as-of, nothing read or published twice."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import stamina

from foundation.errors import LockedError
from foundation.warehouse import PostgresWarehouse, Warehouse, open_warehouse
from operations.ledger import Ledger, Partition, read_runs
from tests.conftest import Project, create_database
from tests.counting_api import CountingApi, counting_api
from tests.integration.test_postgres_warehouse import url_of

AS_OF = "2026-03-04"


@pytest.fixture
def api() -> Iterator[CountingApi]:
    with counting_api() as running:
        yield running


def kill_at(process: subprocess.Popen[str], beginning: str, seconds: float = 0.0) -> None:
    """SIGKILL, so many seconds after the line that begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            break
    out, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, out + err


def kill_when(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """SIGKILL, as soon as it has happened."""
    deadline = time.monotonic() + 120
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, out + err


def warehouse_of(project: Project) -> Path:
    return project.root / ".penstock" / "warehouse.duckdb"


def ask(warehouse: Warehouse, statement: str) -> list[tuple[Any, ...]]:
    # The helper process of a run that was killed ends a moment after it.
    for attempt in stamina.retry_context(on=LockedError, attempts=20, wait_initial=0.1, wait_max=0.5):
        with attempt, open_warehouse(warehouse) as connection:
            return connection.execute(statement).fetchall()
    raise AssertionError


def loads(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """Every load, with when it was made."""
    return ask(warehouse, "select load_id, source, location, loaded_at from raw.loads order by all")


def raw_rows(warehouse: Warehouse) -> dict[str, tuple[int, int]]:
    """Rows and different rows of every source."""
    tables = ("hr__employees", "payroll__employees", "directory__employees", "talent__employees")
    counted = "select count(*), count(distinct (_content_hash, _line)) from raw."
    return {table: ask(warehouse, counted + table)[0] for table in tables}


def release_runs(project: Project) -> list[str]:
    return [run_id for (run_id,) in project.query("select run_id from penstock.releases order by release_id")]


def check_one_run(project: Project, warehouse: Warehouse, first_run: Project, *, is_read_at_once: bool = True) -> str:
    """That the ledger and the target tell of one run, and that it published what an undisturbed one does.

    Of two versions of a record that are as old, the one that was read later counts.
    """
    attempts = 2
    ((run_id, status, found, as_of),) = ask(warehouse, "select run_id, status, attempts, as_of from ops.runs")
    assert (status, found, as_of) == ("succeeded", attempts, date.fromisoformat(AS_OF))
    summary = project.summary
    assert (summary["run_id"], summary["as_of"], summary["attempts"]) == (run_id, AS_OF, attempts)
    assert (summary["status"], summary["exit_code"], summary["is_balanced"]) == ("succeeded", 0, True)
    assert summary["totals"] == first_run.summary["totals"]
    assert release_runs(project) == [run_id]
    assert raw_rows(warehouse) == {name: (rows, rows) for name, (rows, _) in raw_rows(warehouse_of(first_run)).items()}
    columns = "id, name, email, salary, department" if is_read_at_once else "id"
    statement = f"select {columns} from employees order by id"
    assert project.query(statement) == first_run.query(statement)
    # Experience is counted up to the run's own day.
    late = f"select count(*) from employees where experience_years > extract(year from age(date '{AS_OF}', join_date))"
    assert project.query(late) == [(0,)]
    exported = Path("exports") / "employees.csv"
    assert not is_read_at_once or (project.root / exported).read_bytes() == (first_run.root / exported).read_bytes()
    return str(run_id)


# The line of progress after which the run is killed, seconds later, and the stages that the second attempt does.
KILLS = [
    ("gate raw started", 0.1, ["ingest", "gate raw", "build", "gate marts", "books", "publish"]),
    ("build started", 0.8, ["ingest", "gate raw", "build", "gate marts", "books", "publish"]),
    ("gate marts started", 0.1, ["ingest", "gate raw", "gate marts", "books", "publish"]),
    ("books started", 0.0, ["ingest", "gate raw", "gate marts", "books", "publish"]),
    ("publish started", 0.03, None),  # before the commit or after it
]


@pytest.mark.parametrize(("line", "seconds", "stages"), KILLS, ids=[line for line, *_ in KILLS])
def test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again(
    fresh_project: Project,
    first_run: Project,
    api: CountingApi,
    line: str,
    seconds: float,
    stages: list[str] | None,
) -> None:
    warehouse = warehouse_of(fresh_project)
    kill_at(fresh_project.start("run", "--as-of", AS_OF, API_BASE_URL=api.url), line, seconds)
    asked, before = len(api.asked), loads(warehouse)
    assert asked > 5
    done = fresh_project.run("run", "--resume", API_BASE_URL=api.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "which was cut off" in done.stdout
    assert len(api.asked) == asked
    assert loads(warehouse) == before
    check_one_run(fresh_project, warehouse, first_run)
    done_again = ask(warehouse, "select stage from ops.steps where attempt = 2 order by started_at")
    assert stages is None or done_again == [(stage,) for stage in stages]
    assert ask(warehouse, "select distinct attempt from ops.steps order by 1") == [(1,), (2,)]


def test_a_release_that_was_committed_before_the_kill_is_found_and_not_made_again(
    fresh_project: Project, first_run: Project, api: CountingApi
) -> None:
    killed = fresh_project.run("run", "--as-of", AS_OF, API_BASE_URL=api.url, PENSTOCK_FAILPOINT="publish.after_commit")
    assert killed.returncode == -signal.SIGKILL
    (run_id,) = release_runs(fresh_project)
    before = fresh_project.query("select id, xmin::text, updated_at from employees order by id")
    warehouse = warehouse_of(fresh_project)
    assert ask(warehouse, "select status, release_id from ops.runs") == [("running", None)]
    done = fresh_project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the release was made before the run was cut off" in done.stdout
    assert fresh_project.query("select id, xmin::text, updated_at from employees order by id") == before
    assert check_one_run(fresh_project, warehouse, first_run) == run_id
    assert fresh_project.summary["is_new_release"]
    assert fresh_project.summary["gates"] == first_run.summary["gates"]
    marts = {mart["mart"]: mart["added"] for mart in fresh_project.summary["marts"]}
    assert marts["employees"] == len(before)


def test_a_run_killed_while_it_reads_goes_on_after_what_has_landed(
    fresh_project: Project, first_run: Project, api: CountingApi
) -> None:
    settings = fresh_project.root / "penstock.yml"
    text = settings.read_text()
    url = "url: ${API_BASE_URL}/employees"
    assert url in text
    parts = "url: ${API_BASE_URL}/{value}/employees\n    partitions: { by: values, values: [low, high] }"
    settings.write_text(text.replace(url, parts))
    api.holds = r"/high/.*[?&]page=2\b"
    loaded = fresh_project.root / ".penstock" / "dlt" / "pipelines" / "penstock" / "load" / "loaded"
    process = fresh_project.start("run", "--as-of", AS_OF, API_BASE_URL=api.url)
    kill_when(process, lambda: api.is_held.is_set() and any(loaded.glob("*")))
    warehouse = warehouse_of(fresh_project)
    before = loads(warehouse)
    assert {source for _, source, *_ in before} == {source["source"] for source in first_run.summary["sources"]}
    api.may_go.set()
    api.asked.clear()
    done = fresh_project.run("run", "--resume", API_BASE_URL=api.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.split("/")[1] for path in api.asked} == {"high"}
    assert {source for _, source, *_ in set(loads(warehouse)) - set(before)} == {"talent__employees"}
    states = ask(warehouse, "select partition, state from ops.partitions where source like 'talent%' order by place")
    assert states == [("low", "done"), ("high", "done")]
    check_one_run(fresh_project, warehouse, first_run, is_read_at_once=False)
    successful = {(part["source"], part["partition"]) for part in fresh_project.summary["result"]["successful"]}
    assert {("talent__employees", "low"), ("talent__employees", "high"), ("hr__employees", None)} < successful


def test_sources_that_failed_are_read_by_the_next_attempt_and_the_others_are_not(
    fresh_project: Project, api: CountingApi
) -> None:
    warehouse = warehouse_of(fresh_project)
    api.is_down = True
    done = fresh_project.run("run", API_BASE_URL=api.url, MAX_RETRIES="1")
    assert done.returncode == 4, done.stdout + done.stderr
    (first,) = release_runs(fresh_project)
    before = loads(warehouse)
    api.is_down = False
    done = fresh_project.run("run", "--resume", API_BASE_URL=api.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "which ended as partial" in done.stdout
    assert {source for _, source, *_ in set(loads(warehouse)) - set(before)} == {"talent__employees"}
    assert release_runs(fresh_project) == [first, first]
    assert fresh_project.summary["totals"] == fresh_project.summary["totals"] | {"read": 4303, "loaded": 4280}
    assert ask(warehouse, "select status, exit_code, attempts, release_id from ops.runs") == [("succeeded", 0, 2, "2")]
    # Of the books, which are never rewritten, both attempts have their entries.
    assert ask(warehouse, "select release_id, count(*) from ops.mart_books group by 1 order by 1") == [(1, 2), (2, 2)]
    # The judgement of the first attempt has given way to that of the second.
    judged = "select gate, count(distinct checked_at) from ops.gate_results group by gate order by gate"
    gates = ("books", "marts", "published", "raw", "thresholds")
    assert ask(warehouse, judged) == [(gate, 1) for gate in gates]
    again = fresh_project.run("run", "--resume")
    assert again.returncode == 0
    assert f"nothing to resume: run {first} has succeeded" in again.stdout
    assert release_runs(fresh_project) == [first, first]


def test_a_target_that_was_out_of_reach_gets_the_marts_that_were_built(fresh_project: Project) -> None:
    warehouse = warehouse_of(fresh_project)
    done = fresh_project.run("run", DATABASE_URL="postgresql://nobody@127.0.0.1:9/d")
    assert done.returncode == 7, done.stdout + done.stderr
    before = loads(warehouse)
    done = fresh_project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert loads(warehouse) == before
    stages = ask(warehouse, "select attempt, count(*) from ops.steps where stage = 'build' group by 1")
    assert stages == [(1, 1)]
    assert len(release_runs(fresh_project)) == 1
    assert "penstock.yml or the environment has changed" not in done.stdout


def test_what_changed_since_is_told_and_changed_models_are_built_again(fresh_project: Project) -> None:
    warehouse = warehouse_of(fresh_project)
    done = fresh_project.run("run", FAILURE_THRESHOLD_PERCENT="1")
    assert done.returncode == 6, done.stdout + done.stderr
    model = fresh_project.root / "dbt_project" / "models" / "marts" / "employees" / "employees.sql"
    model.write_text(model.read_text() + "\n-- another wording\n")
    done = fresh_project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "penstock.yml or the environment has changed since the last attempt" in done.stdout
    assert "the models have changed since they were built" in done.stdout
    built = ask(warehouse, "select attempt from ops.steps where stage = 'build' order by 1")
    assert built == [(1,), (2,)]


def test_a_build_that_was_killed_is_not_taken_for_the_one_before_it(fresh_project: Project) -> None:
    warehouse = warehouse_of(fresh_project)
    assert fresh_project.run("run", FAILURE_THRESHOLD_PERCENT="1").returncode == 6
    model = fresh_project.root / "dbt_project" / "models" / "marts" / "employees" / "employees.sql"
    model.write_text(model.read_text() + "\n-- another wording\n")
    kill_at(fresh_project.start("run", "--resume"), "build started", 0.5)
    assert ask(warehouse, "select attempts, models_hash from ops.runs") == [(2, None)]
    done = fresh_project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "attempt 3 at run" in done.stdout
    assert ask(warehouse, "select attempt from ops.steps where stage = 'build' order by 1") == [(1,), (3,)]
    assert ask(warehouse, "select status, attempts from ops.runs") == [("succeeded", 3)]
    assert len(release_runs(fresh_project)) == 1


def test_a_command_in_between_has_the_models_built_again(fresh_project: Project) -> None:
    done = fresh_project.run("run", FAILURE_THRESHOLD_PERCENT="1")
    assert done.returncode == 6, done.stdout + done.stderr
    assert fresh_project.run("build", "--as-of", "2030-01-01").returncode == 0
    done = fresh_project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "penstock build (run " in done.stdout
    assert "came after the models were built" in done.stdout
    future = "select count(*) from employees where experience_years > extract(year from age(now(), join_date)) + 1"
    assert fresh_project.query(future) == [(0,)]


def test_where_no_run_was_started_there_is_nothing_to_resume(fresh_project: Project) -> None:
    done = fresh_project.run("run", "--resume")
    assert done.returncode == 2
    assert "there is no run to resume" in done.stderr
    assert fresh_project.run("run", "--resume", "--source", "hr__employees").returncode == 2
    assert fresh_project.run("run", "--resume", "--dry-run").returncode == 2


def test_another_day_and_another_process_are_refused(project: Project) -> None:
    run_id, day = project.summary["run_id"], project.summary["as_of"]
    done = project.run("run", "--resume", "--as-of", "2001-02-03")
    assert done.returncode == 2
    assert f"--as-of 2001-02-03 is not the day of run {run_id}, which is {day}" in done.stderr
    done = project.run("run", "--resume", "--as-of", day)
    assert done.returncode == 0
    assert project.summary["run_id"] == run_id
    first = project.start("run")
    assert first.stdout is not None
    first.stdout.readline()
    done = project.run("run", "--resume")
    assert done.returncode == 3
    assert "another run is going" in done.stderr
    first.communicate()


def test_a_ledger_of_an_older_version_is_widened_and_nothing_of_it_is_lost(project: Project) -> None:
    warehouse = warehouse_of(project)
    with duckdb.connect(str(warehouse)) as connection:
        for table, columns in {
            "runs": ("attempts", "sources", "settings_hash", "models_hash"),
            "steps": ("attempt",),
        }.items():
            connection.execute(f"create table ops.before as select * exclude ({', '.join(columns)}) from ops.{table}")
            connection.execute(f"drop table ops.{table}")
            connection.execute(f"alter table ops.before rename to {table}")
        connection.execute("update ops.runs set status = 'failed', exit_code = 7")
    (run,) = json.loads(project.run("status", "--json").stdout)
    assert (run["status"], run["attempts"]) == ("failed", 1)
    done = project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ask(warehouse, "select run_id, status, attempts from ops.runs") == [(run["run_id"], "succeeded", 2)]
    assert "1" in {str(attempt) for (attempt,) in ask(warehouse, "select coalesce(attempt, 1) from ops.steps")}


@pytest.mark.parametrize("line", ["build started", "publish started"])
def test_a_killed_run_goes_on_with_its_warehouse_in_postgres(
    fresh_project: Project, postgres: str, first_run: Project, api: CountingApi, line: str
) -> None:
    warehouse = PostgresWarehouse(url_of(create_database(postgres)))
    places = {"WAREHOUSE_URL": warehouse.url, "API_BASE_URL": api.url}
    kill_at(fresh_project.start("run", "--as-of", AS_OF, **places), line, 1.0 if line == "build started" else 0.1)
    asked, before = len(api.asked), loads(warehouse)
    done = fresh_project.run("run", "--resume", **places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (len(api.asked), loads(warehouse)) == (asked, before)
    check_one_run(fresh_project, warehouse, first_run)


def test_a_ledger_of_an_older_version_is_widened_in_postgres_too(postgres: str) -> None:
    url = url_of(create_database(postgres))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create schema ops")
        connection.execute(
            "create table ops.runs (run_id varchar primary key, command varchar not null,"
            " started_at timestamptz not null, finished_at timestamptz, status varchar not null, exit_code integer,"
            " as_of date not null,"
            " release_id varchar, error varchar, summary varchar)"
        )
        connection.execute("insert into ops.runs values ('r1', 'run', now(), now(), 'failed', 7, '2026-01-02')")
    (run,) = read_runs(PostgresWarehouse(url), 5)
    assert (run["run_id"], run["attempts"]) == ("r1", 1)
    ledger = Ledger(PostgresWarehouse(url), "r1", 2)
    assert ledger.resume(run["started_at"], "hash") == []
    ledger.plan_partitions([("a__b", "one"), ("a__b", "two")])
    ledger.finish_partitions([Partition("a__b", "one", "done", {"read": 2}, 1.0, None, run["started_at"])])
    ledger.plan_partitions([("a__b", "two"), ("a__b", "three")])
    warehouse = PostgresWarehouse(url)
    states = ask(warehouse, "select partition, state, attempts from ops.partitions order by partition")
    assert states == [("one", "done", 1), ("three", "waiting", None), ("two", "waiting", None)]
    assert ask(warehouse, "select status, attempts, settings_hash from ops.runs") == [("running", 2, "hash")]
