"""The books as a user asks for them: shown, verified, part of the gate, and marts that are built again from them."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from foundation.warehouse import PostgresWarehouse, open_warehouse
from tests.conftest import Project, copy_tree, create_database
from tests.integration.test_postgres_warehouse import PASSWORD, url_of

NEW_FILE = (
    "id,name,email,age,department,salary,joinDate,isActive,metadata,updatedAt\n"
    "N-1,Ada Newcomer,ada.newcomer@example.com,30,eng,70000,2024-02-29,true,,\n"
)


def warehouse_of(project: Project) -> Path:
    return project.root / ".penstock" / "warehouse.duckdb"


def query(project: Project, statement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(warehouse_of(project))) as connection:
        return connection.execute(statement).fetchall()


def books(project: Project, *arguments: str, **environment: str) -> dict[str, Any]:
    done = project.run("books", "--json", *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_the_books_of_a_run_hold_every_hop_with_counts_and_checksums(first_run: Project) -> None:
    found = books(first_run)
    assert found["run_id"] == first_run.summary["run_id"]
    assert found["closing"]["is_balanced"]
    totals = first_run.summary["totals"]
    sources = found["sources"]
    assert sum(book["records_read"] for book in sources) == totals["read"]
    for book in sources:
        assert book["records_read"] == (
            book["records_loaded"] + book["records_dead_lettered"] + book["records_skipped"]
        )
        assert book["records_loaded"] == book["count_accepted"] + book["count_duplicate"] + book["count_rejected"]
        assert book["checksum_loaded"] == book["checksum_judged"] != "0"
    (employees,) = (mart for mart in found["candidates"] if mart["mart"] == "employees")
    assert employees["count_accepted"] == employees["count_candidates"] == totals["published"]
    assert employees["checksum_accepted"] == employees["checksum_keys"] != "0"
    assert {mart["mart"] for mart in found["candidates"]} == {
        "employees",
        "department_headcounts",
        "outcomes_employees",
        "rejected_employees",
    }
    published = {mart["mart"]: (mart["count_published"], json.loads(mart["measures"])) for mart in found["marts"]}
    ((measures,),) = first_run.query("select measures from penstock.releases")
    assert published == {mart: (int(each["rows"]), each) for mart, each in measures.items()}
    shown = first_run.run("books", found["run_id"])
    assert "employees       0       3,454          0   3,454" in shown.stdout
    assert "NOT BALANCED" not in shown.stdout


def test_a_run_that_has_no_books_is_told(first_run: Project, fresh_project: Project) -> None:
    done = first_run.run("books", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the run nobody has no books" in done.stderr
    assert "no run has closed its books yet" in fresh_project.run("books").stdout


def test_the_equations_are_among_the_results_of_the_gates(first_run: Project) -> None:
    found = query(
        first_run,
        "select suite, expectation, severity, is_success from ops.gate_results "
        "where gate in ('books', 'published') order by all",
    )
    assert ("employees", "before_accepted_less_removed", "critical", True) in found
    assert ("employees", "published_is_candidate", "critical", True) in found
    assert ("hr__employees", "read_is_landed", "critical", True) in found
    assert first_run.summary["gates"]["books"] == {"checks": len(found) - 2, "critical": 0, "warning": 0}
    assert first_run.summary["gates"]["published"] == {"checks": 2, "critical": 0, "warning": 0}
    assert "Gate books" in (first_run.root / "site" / "quality.html").read_text()


def test_a_model_that_loses_a_record_stops_the_run_as_a_critical_check(project: Project) -> None:
    before = project.published()
    mart = project.root / "dbt_project" / "models" / "marts" / "employees" / "employees.sql"
    mart.write_text(mart.read_text().replace("select * from final", "select * from final where id not in ('E00001')"))
    lost = project.query("select min(id) from employees")[0][0]
    mart.write_text(mart.read_text().replace("E00001", lost))
    done = project.run("run")
    assert done.returncode == 8, done.stdout + done.stderr
    assert "employees: 3,454 before + 0 accepted - 0 removed = 3,454, but the mart has 3,453 rows" in done.stderr
    assert project.published() == before
    (check,) = query(project, "select suite, severity, notes from ops.gate_results where not is_success")
    assert check[:2] == ("employees", "critical")
    assert "but the mart has 3,453 rows" in (project.root / "site" / "quality.html").read_text()
    assert "NOT BALANCED" in project.run("books").stdout


def test_books_that_nobody_changed_are_verified_run_after_run(project: Project) -> None:
    (project.root / "sample_data" / "employees" / "hr_2027.csv").write_text(NEW_FILE)
    assert project.run("run").returncode == 0
    done = project.run("books", "--verify")
    assert done.returncode == 0, done.stderr
    assert "22 entries, each as it was written" in done.stdout
    assert "what is noted outside is in it: last_run.json and 2 more" in done.stdout


def test_books_that_were_changed_fail_verification(project: Project) -> None:
    query(project, "update ops.books set count_rejected = 0, count_accepted = 9 where source = 'talent__employees'")
    done = project.run("books", "--verify")
    assert (done.returncode, done.stdout) == (8, "")
    assert "entry 4 (ops.books" in done.stderr
    assert "was altered" in done.stderr


def test_an_end_that_was_cut_off_is_missed_by_the_release_too(project: Project) -> None:
    query(project, "delete from ops.mart_books; delete from ops.closings")
    done = project.run("books", "--verify")
    assert done.returncode == 8
    assert "release 1 notes entry 9: the end is gone" in done.stderr
    (project.root / ".penstock" / "last_run.json").unlink()
    done = project.run("books", "--verify")
    assert done.returncode == 8
    assert "release 1 notes entry 9: the end is gone" in done.stderr


def test_the_marts_of_an_earlier_run_are_built_again_beside_the_warehouse(project: Project) -> None:
    first = project.summary["run_id"]
    (project.root / "sample_data" / "employees" / "hr_2027.csv").write_text(NEW_FILE)
    assert project.run("run", "--as-of", "2026-01-15").returncode == 0
    stands = "select count(*), sum(hash(*columns(*))) from marts.employees"
    before = query(project, stands)
    for run_id in (first, project.summary["run_id"]):
        done = project.run("rebuild", "--as-of", run_id, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        assert {mart["mart"]: mart["is_equal"] for mart in found["marts"]} == {
            "employees": True,
            "department_headcounts": True,
            "outcomes_employees": True,
            "rejected_employees": True,
        }
        with duckdb.connect(found["warehouse"], read_only=True) as connection:
            newcomers = connection.execute("select count(*) from marts.employees where id = 'N-1'").fetchone()
        assert newcomers == (0 if run_id == first else 1,)
    assert query(project, stands) == before
    assert project.run("books", "--verify").returncode == 0


def test_marts_that_cannot_be_built_again_as_they_were_are_named(project: Project) -> None:
    query(
        project,
        "update raw.payroll__employees set record = json_merge_patch(record, '{\"salary\": 1234}') "
        "where _line = (select min(_line) from raw.payroll__employees "
        "where record ->> 'id' in (select id from marts.employees))",
    )
    done = project.run("rebuild", "--as-of", project.summary["run_id"])
    assert done.returncode == 8, done.stdout + done.stderr
    assert "cannot be built again as the books have it" in done.stderr


def test_other_models_are_not_taken_for_those_of_the_run(project: Project) -> None:
    mart = project.root / "dbt_project" / "models" / "marts" / "employees" / "department_headcounts.sql"
    mart.write_text(mart.read_text().replace("count(*) as count_employees", "count(*) + 1 as count_employees"))
    run_id = project.summary["run_id"]
    done = project.run("rebuild", "--as-of", run_id)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "was built with the models of" in done.stderr
    assert not (project.root / ".penstock" / "rebuilt").exists()
    done = project.run("rebuild", "--as-of", run_id, "--any-models")
    assert done.returncode == 8
    assert done.stderr.startswith(f"error: department_headcounts of run {run_id}")


def test_the_books_name_the_models_that_made_the_marts_though_others_lie_there_by_now(project: Project) -> None:
    mart = project.root / "dbt_project" / "models" / "marts" / "employees" / "department_headcounts.sql"
    made_of = mart.read_text()
    mart.write_text(made_of.replace("count(*) as count_employees", "count(*) + 1 as count_employees"))
    done = project.run("gate")
    assert done.returncode == 0, done.stdout + done.stderr
    mart.write_text(made_of)
    done = project.run("rebuild", "--as-of", project.summary["run_id"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_ledger_of_an_older_version_goes_on(project: Project) -> None:
    query(
        project,
        """
        create table ops.old as select run_id, source, records_read, records_loaded, records_dead_lettered,
            records_skipped, count_accepted, count_duplicate, count_rejected, is_balanced from ops.books;
        create table ops.old_marts as
            select run_id, mart, count_candidates, count_published, is_balanced from ops.mart_books;
        drop table ops.books; drop table ops.mart_books; drop table ops.closings; drop table ops.candidate_books;
        alter table ops.old rename to books; alter table ops.old_marts rename to mart_books;
        """,
    )
    (project.root / ".penstock" / "last_run.json").unlink()
    shown = project.run("books")
    assert (shown.returncode, "2,503" in shown.stdout) == (0, True), shown.stdout + shown.stderr
    assert len(books(project)["sources"]) == 4
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    (employees,) = (mart for mart in books(project)["candidates"] if mart["mart"] == "employees")
    assert (employees["count_before"], employees["count_accepted"], employees["count_removed"]) == (3454, 0, 0)


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> tuple[Project, PostgresWarehouse]:
    """A project that ran once with its warehouse in Postgres."""
    project = Project(copy_tree(tmp_path_factory.mktemp("postgres") / "pen stock"), create_database(postgres))
    warehouse = PostgresWarehouse(url_of(create_database(postgres)))
    done = project.run("run", WAREHOUSE_URL=warehouse.url)
    assert done.returncode == 0, done.stdout + done.stderr
    return project, warehouse


def test_a_postgres_warehouse_has_the_same_books(
    on_postgres: tuple[Project, PostgresWarehouse], first_run: Project
) -> None:
    project, warehouse = on_postgres
    found, wanted = (books(project, WAREHOUSE_URL=warehouse.url), books(first_run))
    leave = {"run_id", "entry_number", "entry_hash", "previous_hash"}
    for book, same in zip(found["sources"], wanted["sources"], strict=True):
        assert {k: v for k, v in book.items() if k not in leave} == {k: v for k, v in same.items() if k not in leave}
    # Whole rows of employees bear the time of their run.
    names = ("mart", "count_candidates", "count_accepted", "checksum_accepted", "checksum_keys", "is_balanced")
    for book, same in zip(found["candidates"], wanted["candidates"], strict=True):
        assert [book[name] for name in names] == [same[name] for name in names]
    done = project.run("books", "--verify", WAREHOUSE_URL=warehouse.url)
    assert done.returncode == 0, done.stderr
    assert "11 entries, each as it was written" in done.stdout


def test_the_marts_of_a_postgres_warehouse_are_built_again_in_another_database(
    on_postgres: tuple[Project, PostgresWarehouse], postgres: str
) -> None:
    project, warehouse = on_postgres
    arguments = ("rebuild", "--as-of", project.summary["run_id"])
    done = project.run(*arguments, WAREHOUSE_URL=warehouse.url)
    assert done.returncode == 2
    assert "REBUILD_URL" in done.stderr
    done = project.run(*arguments, WAREHOUSE_URL=warehouse.url, REBUILD_URL=warehouse.url)
    assert done.returncode != 0
    place = url_of(create_database(postgres))
    done = project.run(*arguments, WAREHOUSE_URL=warehouse.url, REBUILD_URL=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("equal") == 4
    assert PASSWORD not in done.stdout + done.stderr
    done = project.run(*arguments, WAREHOUSE_URL=warehouse.url, REBUILD_URL=place)
    assert done.returncode == 2
    assert "holds something already" in done.stderr


def test_what_was_changed_in_the_books_of_a_postgres_warehouse_shows(
    on_postgres: tuple[Project, PostgresWarehouse],
) -> None:
    project, warehouse = on_postgres
    with open_warehouse(warehouse) as connection:
        connection.execute("update ops.closings set is_balanced = false")
    done = project.run("books", "--verify", WAREHOUSE_URL=warehouse.url)
    assert done.returncode == 8
    assert "entry 9 (ops.closings" in done.stderr
