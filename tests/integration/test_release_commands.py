"""The commands on releases: what was published, what changed, and the way back."""

import json

from tests.conftest import Project

NEW = b'99001,Ann New,ann.new@example.org,25,Engineering,91500,2024-11-04,1,,"{""office"": ""Eastvale""}",\n'


def add_one(project: Project) -> None:
    """One more person in a file of the sample data, and a run."""
    with (project.root / "sample_data" / "employees" / "hr_2026.csv").open("ab") as file:
        file.write(NEW)
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_release_can_be_listed_compared_and_taken_back(project: Project) -> None:
    before = project.published()
    exported = (project.root / "exports" / "employees.csv").read_bytes()
    add_one(project)
    after = project.published()
    assert after != before

    (newest, first) = json.loads(project.run("releases", "--json").stdout)
    assert (newest["release_id"], first["release_id"], first["kind"]) == (2, 1, "publish")
    assert first["gate"]["critical"] == 0
    told = project.run("releases").stdout
    assert "passed" in told
    assert newest["run_id"] in told

    differing = json.loads(project.run("diff", "--json", "--rows", "100").stdout)
    assert (differing["from"], differing["to"]) == (1, 2)
    assert differing["marts"] == newest["marts"]
    assert len(differing["rows"]) == sum(
        delta["rows_added"] + delta["rows_changed"] + delta["rows_removed"] for delta in newest["marts"].values()
    )
    assert "release 1 -> 2" in project.run("diff", "1", "2").stdout

    back = project.run("rollback")
    assert back.returncode == 0, back.stderr
    assert "release 3 is shown now" in back.stdout
    assert project.published() == before
    assert (project.root / "exports" / "employees.csv").read_bytes() == exported
    assert "already shows that" in project.run("rollback", "1").stdout

    assert project.run("run").returncode == 0
    assert project.published() == after
    assert (project.root / "exports" / "employees.csv").read_bytes() != exported


def test_what_cannot_be_done_is_told_in_a_line(fresh_project: Project) -> None:
    assert fresh_project.run("releases").stdout == "nothing was published yet: penstock run\n"
    for command in (["rollback"], ["diff"]):
        done = fresh_project.run(*command)
        assert done.returncode == 7
        assert done.stderr.startswith("error: nothing was published into the schema public (")
        assert "Traceback" not in done.stderr


def test_a_release_that_is_not_there_is_told_with_those_that_are(project: Project) -> None:
    done = project.run("rollback", "17")
    assert done.returncode == 7
    assert "there is no release 17 that could be read" in done.stderr
    assert "these can be read: 1" in done.stderr
