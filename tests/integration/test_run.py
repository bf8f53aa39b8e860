"""The whole run as a user types it, on the sample data, against a real Postgres."""

import csv
import json
from collections import Counter
from datetime import date

import duckdb

from tests import oracle_employees as oracle
from tests.conftest import ROOT, Project

EXPECTED = json.loads((ROOT / "sample_data" / "employees" / "expected.json").read_text())
FILES = {
    "hr_2025.csv": "hr__employees",
    "hr_2026.csv": "hr__employees",
    "payroll.json": "payroll__employees",
    "directory.ndjson": "directory__employees",
    "talent.json": "talent__employees",
}
NEW_ROWS = (
    "N-1,Ada Newcomer,ada.newcomer@example.com,30,eng,70000,2024-02-29,true,,\n"
    "N-2,Bob Newcomer,bob.newcomer@example.com,31,sales,60000,2023-01-02,yes,,\n"
)
HEADER = "id,name,email,age,department,salary,joinDate,isActive,metadata,updatedAt\n"


def test_a_first_run_publishes_and_balances(first_run: Project) -> None:
    summary = first_run.summary
    assert (summary["status"], summary["is_balanced"], summary["is_new_release"]) == ("succeeded", True, True)
    by_source = {source["source"]: source for source in summary["sources"]}
    wanted: dict[str, dict[str, int]] = {}
    for name, file in EXPECTED["files"].items():
        counts = wanted.setdefault(FILES[name], dict.fromkeys(("read", "loaded", "dead_lettered", "skipped"), 0))
        for key in counts:
            counts[key] += file[key]
    assert {name: {key: found[key] for key in wanted[name]} for name, found in by_source.items()} == wanted
    (domain,) = summary["domains"]
    assert (domain["domain"], domain["read"], domain["is_balanced"]) == ("employees", summary["totals"]["read"], True)
    assert min(domain["seconds"], domain["build_seconds"]) > 0


def test_every_record_and_every_value_is_what_the_oracle_says(first_run: Project) -> None:
    as_of = date.fromisoformat(first_run.summary["as_of"])
    folder = ROOT / "sample_data" / "employees"
    records = [record for name, source in FILES.items() for record in oracle.read(folder / name, source).records]
    verdicts = oracle.judge(records, as_of)
    wanted = sorted(
        (
            one.employee.id,
            one.employee.name,
            one.employee.email,
            one.employee.age,
            one.employee.department,
            one.employee.salary,
            one.employee.join_date,
            one.employee.is_active,
            one.employee.metadata,
            oracle.experience_years(one.employee.join_date, as_of),
            oracle.salary_grade(one.employee.salary),
        )
        for one in verdicts
        if one.outcome == "accepted" and one.employee.join_date and one.employee.salary is not None
    )
    columns = "id, name, email, age, department, salary, join_date, is_active, metadata, experience_years, salary_grade"
    found = first_run.query(f'select {columns} from employees order by id collate "C"')
    assert [row[:8] + row[9:] for row in found] == [row[:8] + row[9:] for row in wanted]
    assert [row[8] for row in found] == [row[8] for row in wanted]
    with duckdb.connect(str(first_run.root / ".penstock" / "warehouse.duckdb"), read_only=True) as connection:
        outcomes = dict(
            connection.execute("select outcome, count(*) from marts.outcomes_employees group by outcome").fetchall()
        )
    assert outcomes == Counter(one.outcome for one in verdicts)


def test_the_exports_are_the_published_rows(first_run: Project) -> None:
    with (first_run.root / "exports" / "employees.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ID", "Name", "Email", "Age", "Department", "Salary", "Join Date", "Is Active"]
    published = first_run.query(
        "select id, name, email, age::text, department, salary::text, join_date::text, "
        "case when is_active then 'Yes' else 'No' end from employees order by id collate \"C\""
    )
    assert sorted(tuple(row) for row in rows[1:]) == sorted(published)
    exported = json.loads((first_run.root / "exports" / "employees.json").read_text(encoding="utf-8"))
    assert {row["id"] for row in exported} == {row[0] for row in published}


def test_a_second_run_reads_nothing_new_and_moves_no_row(project: Project) -> None:
    before = project.query("select id, xmin::text, updated_at from employees order by id")
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing new was read" in done.stdout
    assert "nothing changed in Postgres" in done.stdout
    assert project.query("select id, xmin::text, updated_at from employees order by id") == before
    assert project.summary["totals"]["loaded"] == 0


def test_appended_rows_and_an_added_file_load_just_those(project: Project) -> None:
    folder = project.root / "sample_data" / "employees"
    # The sample's first file ends in a broken quote; the second ends cleanly.
    with (folder / "hr_2026.csv").open() as file:
        header = next(csv.reader(file))
    row = {"id": "N-3", "name": "Eve Added", "email": "eve.added@example.com", "age": "40", "department": "HR"}
    row |= {"salary": "50000", "joinDate": "2020-01-01", "isActive": "1"}
    with (folder / "hr_2026.csv").open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([row.get(name, "") for name in header])
    (folder / "hr_2027.csv").write_text(HEADER + NEW_ROWS)
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    hr = next(source for source in project.summary["sources"] if source["source"] == "hr__employees")
    assert (hr["read"], hr["loaded"], hr["published"]) == (3, 3, 3)
    found = project.query("select id, name, department from employees where id like 'N-%' order by id")
    assert found == [
        ("N-1", "Ada Newcomer", "Engineering"),
        ("N-2", "Bob Newcomer", "Sales"),
        ("N-3", "Eve Added", "HR"),
    ]
    changed = next(mart for mart in project.summary["marts"] if mart["mart"] == "employees")
    assert (changed["added"], changed["changed"], changed["removed"]) == (3, 0, 0)


def test_bad_departments_close_the_gate_and_the_release_before_stands(project: Project) -> None:
    before = project.published()
    rows = [
        f"B-{n},Bad Batch,bad.{n}@example.com,30,{'nowhere' if n % 5 < 2 else 'eng'},70000,2024-01-01,true,,\n"
        for n in range(500)
    ]
    file = project.root / "sample_data" / "employees" / "hr_2027.csv"
    file.write_text(HEADER + "".join(rows))
    done = project.run("run")
    assert done.returncode == 6, done.stdout + done.stderr
    assert "outcomes_employees" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.published() == before
    again = project.run("run")  # the bad rows are in raw; a run without new data must not let them through
    assert again.returncode == 6, again.stdout + again.stderr
    assert project.published() == before


def test_a_dry_run_changes_nothing(fresh_project: Project) -> None:
    before = sorted(path for path in fresh_project.root.rglob("*") if "__pycache__" not in path.parts)
    done = fresh_project.run("run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "hr__employees: sample_data/employees/hr_2025.csv: new" in done.stdout
    assert "would publish: public.employees" in done.stdout
    assert sorted(path for path in fresh_project.root.rglob("*") if "__pycache__" not in path.parts) == before
    assert fresh_project.query("select count(*) from pg_tables where schemaname = 'public'") == [(0,)]


def test_a_secret_that_is_not_set_has_the_same_exit_code_in_a_dry_run(fresh_project: Project) -> None:
    file = fresh_project.root / "penstock.yml"
    text = file.read_text()
    file.write_text(
        text.replace("records_path: data", 'headers: { X-Key: "${NO_SUCH_SECRET}" }\n    records_path: data')
    )
    for arguments in (["ingest"], ["run", "--dry-run"]):
        done = fresh_project.run(*arguments)
        assert done.returncode == 4, done.stdout + done.stderr
        assert "sources.talent__employees.headers.X-Key in penstock.yml" in done.stdout + done.stderr


def test_status_shows_the_runs(first_run: Project) -> None:
    done = first_run.run("status", "--json")
    (run,) = json.loads(done.stdout)
    assert (run["status"], run["command"], run["exit_code"]) == ("succeeded", "run", 0)
