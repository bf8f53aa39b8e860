"""Dead letters from the command line: listed, shown, corrected, replayed and discarded, on real runs."""

import csv
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from operations.lock import run_lock
from tests.conftest import Project

# What fails again in a replay stops nothing, even where a single record could.
ONE_STOPS = {"FAILURE_MIN_RECORDS": "1"}
FIXED = "{id},Fixed Bell,{id}@example.com,30,Sales,50000,2020-01-02,true,,"


def deadletters(project: Project, *arguments: str) -> Any:
    """What `penstock deadletters ... --json` prints."""
    done = project.run("deadletters", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def letter(project: Project, letter_id: str) -> dict[str, Any]:
    """One letter whole."""
    return dict(deadletters(project, "show", letter_id))


def of_raw(project: Project, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query on the warehouse."""
    with duckdb.connect(str(project.root / ".penstock" / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def export(project: Project, name: str, *filters: str) -> list[dict[str, Any]]:
    """The letters that are exported to a file of this name."""
    file = project.root / name
    deadletters(project, "export", "--to", str(file), "--force", *filters)
    if file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write(project: Project, name: str, letters: list[dict[str, Any]]) -> str:
    """A corrected file; its path."""
    file = project.root / name
    if file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(letters[0]))
            writer.writeheader()
            writer.writerows(letters)
    else:
        file.write_text("".join(json.dumps(each) + "\n" for each in letters), encoding="utf-8")
    return str(file)


def counted(project: Project) -> dict[str, int]:
    """Rows of raw and of its dead letters."""
    tables = [
        name
        for (name,) in of_raw(
            project,
            "select table_name from information_schema.tables where "
            "table_schema = 'raw' and table_name not like '\\_dlt%' escape '\\'",
        )
    ]
    return {name: of_raw(project, f"select count(*) from raw.{name}")[0][0] for name in tables if name != "loads"}


def test_letters_of_parsing_and_of_rules_are_counted_and_show_nothing_of_the_records(first_run: Project) -> None:
    groups = deadletters(first_run, "list")
    by_stage: dict[str, set[tuple[str, str]]] = {}
    for group in groups:
        by_stage.setdefault(group["stage"], set()).add((group["source"], group["reason"]))
        assert group["state"] == "open"
    assert ("hr__employees", "ragged_line") in by_stage["parse"]
    assert ("hr__employees", "department_unknown") in by_stage["rule"]
    totals = first_run.summary["totals"]
    letters = deadletters(first_run, "list", "--ids", "--limit", "10000")
    assert len(letters) == totals["dead_lettered"] + totals["rejected"]
    assert len({each["letter_id"] for each in letters}) == len(letters)
    done = first_run.run("deadletters", "list")
    assert "example.com" not in done.stdout + json.dumps(groups) + json.dumps(letters)


def test_filters_narrow_the_list(first_run: Project) -> None:
    for filters in (
        ["--stage", "parse"],
        ["--source", "hr__employees", "--reason", "age_missing"],
        ["--since", "2020-01-01"],
    ):
        assert deadletters(first_run, "list", *filters)
    assert deadletters(first_run, "list", "--until", "2020-01-01") == []
    assert deadletters(first_run, "list", "--state", "resolved") == []
    assert deadletters(first_run, "list", "--run", first_run.summary["run_id"]) == deadletters(first_run, "list")
    assert deadletters(first_run, "list", "--run", "another") == []
    done = first_run.run("deadletters", "list", "--stage", "nowhere")
    assert (done.returncode, "there are fetch, parse, rule, gate" in done.stderr) == (2, True)


def test_a_letter_is_shown_with_its_record_its_place_and_every_reason(first_run: Project) -> None:
    source, content_hash, line, rules = of_raw(
        first_run,
        "select source, content_hash, line, failed_rules from marts.rejected_employees where len(failed_rules) > 2 "
        "and source = 'hr__employees' limit 1",
    )[0]
    letters = deadletters(first_run, "list", "--ids", "--stage", "rule", "--source", source, "--limit", "10000")
    (found,) = [each for each in letters if each["line"] == line and set(each["reasons"].split(",")) == set(rules)]
    whole = letter(first_run, found["letter_id"][:12])
    assert (whole["content_hash"], whole["stage"], whole["attempts"]) == (content_hash, "rule", 1)
    ((name,),) = of_raw(
        first_run, f"select name from raw.hr__employees where _content_hash = '{content_hash}' and _line = {line}"
    )
    assert json.loads(whole["record"])["name"] == name
    assert [event["event"] for event in whole["history"]] == ["set aside"]


@pytest.mark.parametrize("name", ["letters.csv", "letters.ndjson"])
def test_corrected_letters_are_published_once_and_resolved(project: Project, name: str) -> None:
    letters = export(project, name, "--source", "hr__employees")
    broken = next(each for each in letters if each["reasons"] == "broken_quote")
    ragged = next(each for each in letters if each["reasons"] == "ragged_line")
    rule = next(each for each in letters if each["reasons"] == "department_unknown")
    broken["record"] = FIXED.format(id="F-1")
    ragged["record"] = "F-2,not enough"
    record = json.loads(rule["record"])
    rule["record"] = json.dumps(record | {"department": "Sales"})
    file = write(project, name, letters)
    before = counted(project)
    done = project.run("replay", file, **ONE_STOPS)
    assert done.returncode == 0, done.stdout + done.stderr
    hr = next(source for source in project.summary["sources"] if source["source"] == "hr__employees")
    assert (hr["read"], hr["loaded"], hr["dead_lettered"], hr["is_balanced"]) == (3, 2, 1, True)
    assert f"{len(letters) - 3} letters are as they were exported and were left out" in done.stdout
    after = counted(project)
    assert (after["hr__employees"], after["dead_letters"]) == (before["hr__employees"] + 2, before["dead_letters"] + 1)
    assert project.query("select name, department from employees where id = 'F-1'") == [("Fixed Bell", "Sales")]
    assert letter(project, broken["letter_id"])["state"] == "resolved"
    resolved = letter(project, rule["letter_id"])
    assert (resolved["state"], resolved["resolution"], resolved["attempts"]) == ("resolved", "replayed: accepted", 2)
    again = letter(project, ragged["letter_id"])
    assert (again["state"], again["reasons"], again["attempts"]) == ("open", "ragged_line", 2)
    assert (again["corrected"], again["record"] != "F-2,not enough") == ("F-2,not enough", True)
    assert [event["event"] for event in again["history"]] == ["set aside", "replayed: dead-lettered"]
    told = f"penstock deadletters list --run {project.summary['run_id']}"
    assert told in done.stdout
    found = deadletters(project, "list", "--ids", "--run", project.summary["run_id"], "--state", "open")
    assert [each["letter_id"] for each in found] == [ragged["letter_id"]]
    # The same once more adds nothing; the next run neither.
    for command in (["replay", file], ["run"]):
        done = project.run(*command, **ONE_STOPS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert counted(project) == after
        assert project.summary["is_balanced"]
    assert letter(project, broken["letter_id"])["attempts"] == 2


def test_after_an_alias_was_added_a_replay_builds_anew_and_lands_nothing(project: Project) -> None:
    letters = export(project, "letters.ndjson", "--reason", "department_unknown", "--source", "hr__employees")
    only = [each for each in letters if each["reasons"] == "department_unknown"]
    alias = json.loads(only[0]["record"])["department"].strip().lower()
    with (project.root / "dbt_project" / "seeds" / "department_aliases.csv").open("a") as file:
        file.write(f"{alias},Sales\n")
    before = counted(project)
    done = project.run("replay", "--reason", "department_unknown", **ONE_STOPS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the models and gates judge them anew, nothing lands twice" in done.stdout
    assert counted(project) == before
    found = letter(project, only[0]["letter_id"])
    assert (found["state"], found["resolution"], found["attempts"]) == ("resolved", "judged anew: accepted", 2)
    others = deadletters(project, "list", "--state", "open", "--source", "talent__employees")
    assert others


def test_a_letter_whose_file_was_mended_at_its_source_is_resolved(project: Project) -> None:
    file = project.root / "sample_data" / "employees" / "hr_2026.csv"
    ids = [each["letter_id"] for each in export(project, "l.ndjson") if each["location"].endswith("hr_2026.csv")]
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    file.write_text(lines[0] + "M-1,Mended One,mended@example.com,30,Sales,50000,2020-01-02,true,,,\n")
    done = project.run("run", **ONE_STOPS)
    assert done.returncode == 0, done.stdout + done.stderr
    states = {each["letter_id"]: each["state"] for each in deadletters(project, "list", "--ids", "--limit", "10000")}
    assert ids
    assert {states[each] for each in ids} == {"resolved"}
    assert "open" in states.values()


def test_discarded_letters_keep_the_reason_and_leave_the_open_ones(project: Project) -> None:
    (first, second, *_) = deadletters(project, "list", "--ids", "--stage", "parse")
    found = deadletters(project, "discard", first["letter_id"], "--because", "a test line of the vendor")
    assert found == {"discarded": 1}
    whole = letter(project, first["letter_id"])
    assert (whole["state"], whole["resolution"]) == ("discarded", "a test line of the vendor")
    assert whole["history"][-1]["note"] == "a test line of the vendor"
    assert letter(project, second["letter_id"])["state"] == "open"
    assert first["letter_id"] not in {each["letter_id"] for each in export(project, "open.ndjson")}
    assert deadletters(project, "discard", first["letter_id"], "--because", "again") == {"discarded": 0}
    for arguments, told in (
        (["--because", "x"], "nothing says which letters"),
        (["abcdefgh", "--because", " "], "the reason"),
    ):
        done = project.run("deadletters", "discard", *arguments)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_files_that_cannot_be_taken_are_refused_whole(project: Project) -> None:
    letters = export(project, "good.ndjson", "--stage", "parse")
    first, second = (each | {"record": "changed"} for each in letters[:2])
    good = [json.dumps(each) for each in (first, second)]
    files = {
        "unknown.ndjson": (
            good[0] + "\n" + json.dumps(first | {"letter_id": "f" * 32}),
            "no dead letter has the id ffff",
        ),
        "twice.ndjson": (good[0] + "\n" + good[0], "several lines correct one letter"),
        "cut.ndjson": (good[0] + "\n" + good[1][:40], "line 2: the text is not valid JSON"),
        "array.ndjson": ("[1]\n", "line 1: the JSON value is not an object"),
        "renamed.ndjson": (json.dumps({"id": "x", "record": "y"}), "letter_id"),
        "empty.ndjson": ("", "it holds no letters"),
        "empty.csv": ("", "it holds no letters"),
        "header.csv": ("letter_id,record\n", "it holds no letters"),
        "columns.csv": (f"letter_id,reasons\n{first['letter_id']},x\n", "it has no column record"),
        "ragged.csv": (f"letter_id,record\n{first['letter_id']},a,b\n{second['letter_id']},x\n", "line 2"),
        "quote.csv": (f'letter_id,record\n{first["letter_id"]},"a\n', "line 2"),
        "blank.csv": (f"letter_id,record\n{first['letter_id']},\n", "record is empty"),
        "letters.txt": ("x", "does not say its form"),
    }
    before = counted(project)
    for name, (text, told) in files.items():
        (project.root / name).write_text(text)
        done = project.run("replay", name)
        assert done.returncode == 2, (name, done.stdout, done.stderr)
        assert told in done.stderr, (name, done.stderr)
        assert "Traceback" not in done.stderr
    done = project.run("replay", "nowhere.csv")
    assert (done.returncode, "there is no file" in done.stderr) == (2, True)
    assert counted(project) == before


def test_a_letter_of_a_source_that_is_gone_is_told_and_not_lost(project: Project) -> None:
    letters = export(project, "letters.ndjson", "--source", "payroll__employees", "--stage", "parse")
    file = project.root / "penstock.yml"
    text = file.read_text()
    start, end = text.index("  payroll__employees:"), text.index("  directory__employees:")
    file.write_text(text[:start] + text[end:])
    done = project.run("replay", write(project, "c.ndjson", [each | {"record": "{}"} for each in letters]))
    assert done.returncode == 2
    assert "payroll__employees: no such source is in penstock.yml" in done.stderr
    done = project.run("replay", "--source", "payroll__employees")
    assert (done.returncode, "is not in penstock.yml any more, stay" in done.stdout) == (0, True)
    assert letter(project, letters[0]["letter_id"])["state"] == "open"


def test_a_replay_while_a_run_goes_is_refused_and_changes_nothing(project: Project) -> None:
    letters = export(project, "letters.ndjson", "--stage", "parse")
    file = write(project, "c.ndjson", [letters[0] | {"record": "x"}])
    with run_lock(project.root / ".penstock", "the-other-run"):
        done = project.run("replay", file)
    assert (done.returncode, "another run is going: run the-other-run" in done.stderr) == (3, True)
    with run_lock(project.root / ".penstock", command="docs"):
        done = project.run("replay", file)
    assert (done.returncode, "another command is going: penstock docs, process" in done.stderr) == (3, True)
    assert letter(project, letters[0]["letter_id"])["attempts"] == 1


def test_an_export_writes_over_no_file_and_texts_like_formulas_come_back_as_they_were(project: Project) -> None:
    file = project.root / "sample_data" / "employees" / "hr_2027.csv"
    texts = ["=1+2,x", "'=3,x", "'plain,x", "-4,x"]
    file.write_text(
        "id,name,email,age,department,salary,joinDate,isActive,metadata,updatedAt\n" + "\n".join(texts) + "\n"
    )
    done = project.run("ingest")
    assert done.returncode == 0, done.stderr
    letters = [
        each for each in export(project, "l.csv", "--stage", "parse") if each["location"].endswith("hr_2027.csv")
    ]
    assert [each["record"] for each in letters] == ["'=1+2,x", "''=3,x", "'plain,x", "'-4,x"]
    done = project.run("deadletters", "export", "--to", str(project.root / "l.csv"))
    assert (done.returncode, "is there already" in done.stderr) == (2, True)
    done = project.run("replay", write(project, "l.csv", letters))
    assert (done.returncode, "nothing to replay: 4 letters are as they were exported" in done.stdout) == (0, True)


def test_a_warehouse_that_is_not_there_has_no_letters(fresh_project: Project) -> None:
    assert deadletters(fresh_project, "list") == []
    for arguments in (["replay"], ["replay", "--source", "hr__employees"]):
        done = fresh_project.run(*arguments)
        assert (done.returncode, "nothing was read yet" in done.stdout) == (0, True), done.stderr
    assert not Path(fresh_project.root / ".penstock" / "warehouse.duckdb").exists()
