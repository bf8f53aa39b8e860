"""Thresholds in whole runs: a warning is told everywhere, a stop publishes nothing, a few bad records stop nothing."""

from tests.conftest import Project
from tests.integration.test_resume import ask, warehouse_of

HEADER = "id,name,email,age,department,salary,joinDate,isActive,metadata,updatedAt\n"


def _people(name: str, good: int, bad: int) -> str:
    """Rows of new employees, of which `bad` have a department that nobody knows."""
    return HEADER + "".join(
        f"{name}-{n},Some Body,{name.lower()}.{n}@example.com,30,{'nowhere' if n < bad else 'eng'},70000,2024-01-01,"
        "true,,\n"
        for n in range(good + bad)
    )


def _own(project: Project, line: str) -> None:
    file = project.root / "penstock.yml"
    text = file.read_text()
    file.write_text(
        text.replace("    path: sample_data/employees/hr_*.csv\n", f"    path: sample_data/employees/hr_*.csv\n{line}")
    )


def test_a_few_bad_records_stop_nothing_and_a_share_beyond_the_warning_is_told_everywhere(project: Project) -> None:
    folder, warehouse = project.root / "sample_data" / "employees", warehouse_of(project)
    (folder / "hr_2027.csv").write_text(_people("A", 1, 1))
    # The API is asked for everything again, and its records are skipped: they count on neither side.
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    told = (
        "50.0% of the records of all sources since the last release failed (1 of 2); only 2 records: they stop nothing"
    )
    assert f"note: warning: {told}" in done.stdout
    (share,) = project.summary["thresholds"]
    assert (share["verdict"], share["failed"], share["judged"], share["percent"]) == ("warn", 1, 2, 50)
    found = "select severity, is_success, observed_value from ops.gate_results where gate = 'thresholds' and run_id = "
    assert ask(warehouse, f"{found}'{project.summary['run_id']}'") == [("warning", False, "50")]
    assert "thresholds" in (project.root / "site" / "quality.html").read_text()
    assert project.query("select count(*) from employees where id like 'A-%'") == [(1,)]

    (folder / "hr_2028.csv").write_text(_people("B", 70, 30))
    done = project.run("run")
    assert done.returncode == 6, done.stdout + done.stderr
    assert project.summary["status"] == "failed"
    assert project.query("select count(*) from employees where id like 'B-%'") == [(0,)]

    # A source may have a threshold of its own, which the share of all others does not know.
    _own(project, "    failure_threshold_percent: 29\n")
    done = project.run("run", "--resume")
    assert done.returncode == 6, done.stdout + done.stderr
    assert "30.0% of the records of hr__employees since the last release failed (30 of 100)" in done.stderr
    assert "sources.hr__employees.failure_threshold_percent 29" in done.stderr
    check = "select severity, suite from ops.gate_results where gate = 'thresholds' and not is_success and run_id = "
    assert ask(warehouse, f"{check}'{project.summary['run_id']}'") == [("critical", "hr__employees")]
    assert "failed %" in (project.root / "site" / "quality.html").read_text()
    _own(project, "    failure_warning_percent: 30\n")
    file = project.root / "penstock.yml"
    file.write_text(file.read_text().replace("failure_threshold_percent: 29", "failure_threshold_percent: 31"))
    done = project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {share["verdict"] for share in project.summary["thresholds"]} == {"pass"}
    assert project.summary["attempts"] == 3
    assert project.query("select count(*) from employees where id like 'B-%'") == [(70,)]


def test_parse_and_rule_failures_count_together(project: Project) -> None:
    rows = _people("C", 94, 6)
    broken = "".join(f"D-{n},too,few\n" for n in range(6))
    (project.root / "sample_data" / "employees" / "hr_2027.csv").write_text(rows + broken)
    done = project.run("run")
    assert done.returncode == 6, done.stdout + done.stderr
    assert "11.3% of the records of all sources since the last release failed (12 of 106)" in done.stderr


def test_a_run_that_stopped_goes_on_once_its_bad_records_are_discarded(project: Project) -> None:
    (project.root / "sample_data" / "employees" / "hr_2027.csv").write_text(_people("E", 70, 30))
    assert project.run("run").returncode == 6
    done = project.run("deadletters", "discard", "--source", "hr__employees", "--because", "a test department")
    assert done.returncode == 0, done.stdout + done.stderr
    done = project.run("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    (share,) = project.summary["thresholds"]
    assert (share["verdict"], share["failed"], share["judged"]) == ("pass", 0, 100)
    assert project.query("select count(*) from employees where id like 'E-%'") == [(70,)]
