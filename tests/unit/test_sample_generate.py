"""The sample data: the same bytes everywhere, and what expected.json says of them is true."""

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sample_data.defects import DEFECTS
from sample_data.generate import FILES, FOLDER, generate, main
from tests.oracle_employees import judge, read

ROOT = Path(__file__).parents[2]
CSV_FILES = ("hr_2025.csv", "hr_2026.csv")


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """The committed expected.json."""
    return dict(json.loads((FOLDER / "expected.json").read_text(encoding="utf-8")))


def test_committed_files_are_what_the_generator_writes() -> None:
    committed = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert committed == dict(generate())


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    main(["--seed", "7", "--out", str(tmp_path / "one")])
    main(["--seed", "7", "--out", str(tmp_path / "two")])
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / run).iterdir()} for run in ("one", "two"))
    assert one == two
    assert set(one) == {file.name for file in FILES} | {"expected.json"}


def test_hash_seed_and_locale_change_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "4711", "LC_ALL": "C", "TZ": "Asia/Kolkata", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "sample_data.generate", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict(generate())


def test_another_seed_gives_other_people() -> None:
    assert dict(generate(1))["hr_2025.csv"] != dict(generate(2))["hr_2025.csv"]


def test_all_files_together_stay_small() -> None:
    assert sum(len(content) for _, content in generate()) < 1_000_000


@pytest.mark.parametrize("name", CSV_FILES)
def test_csv_lines_are_counted_right(expected: dict[str, Any], name: str) -> None:
    header, *lines = (FOLDER / name).read_bytes().removesuffix(b"\n").split(b"\n")
    width = header.count(b",") + 1
    blank = [number for number, line in enumerate(lines, start=2) if not line]
    dead = [number for number, line in enumerate(lines, start=2) if line and not _is_csv_record(line, width)]
    told = expected["files"][name]
    assert (blank, dead) == (told["blank_lines"], [letter["line"] for letter in told["dead_letters"]])
    assert (told["read"], told["dead_lettered"], told["skipped"]) == (len(lines), len(dead), len(blank))
    assert told["loaded"] == len(lines) - len(dead) - len(blank)


def _is_csv_record(line: bytes, width: int) -> bool:
    try:
        return len(next(csv.reader([line.decode()], strict=True))) == width
    except (UnicodeDecodeError, csv.Error):
        return False


def test_a_csv_reader_that_sees_the_whole_file_counts_the_same(expected: dict[str, Any]) -> None:
    # hr_2026.csv but for its four broken lines: no record spans two lines, no quote is left open.
    lines = (FOLDER / "hr_2026.csv").read_bytes().split(b"\n")
    told = expected["files"]["hr_2026.csv"]
    broken = {letter["line"] for letter in told["dead_letters"]}
    text = "\n".join(line.decode() for number, line in enumerate(lines, start=1) if number not in broken)
    assert sum(1 for _ in csv.DictReader(text.splitlines(keepends=True), strict=True)) == told["loaded"]


def test_an_open_quote_swallows_nothing_because_it_comes_last(expected: dict[str, Any]) -> None:
    letters = expected["files"]["hr_2025.csv"]["dead_letters"]
    count_lines = (FOLDER / "hr_2025.csv").read_bytes().count(b"\n")
    assert [letter["line"] for letter in letters if letter["kind"] == "open_quote"] == [count_lines]


def test_headers_differ_by_one_unknown_column_in_the_middle() -> None:
    first, second = ((FOLDER / name).read_text(encoding="latin-1").splitlines()[0] for name in CSV_FILES)
    assert first == "id,name,email,age,department,salary,joinDate,isActive,metadata,updatedAt"
    assert second == "id,name,email,age,department,salary,joinDate,isActive,badge,metadata,updatedAt"


def test_ndjson_lines_are_counted_right(expected: dict[str, Any]) -> None:
    lines = (FOLDER / "directory.ndjson").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    dead = [number for number, line in enumerate(lines, start=1) if not _is_json_object(line)]
    told = expected["files"]["directory.ndjson"]
    assert dead == [letter["line"] for letter in told["dead_letters"]]
    assert (told["read"], told["loaded"], told["skipped"]) == (len(lines), len(lines) - len(dead), 0)


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict) and "NaN" not in line
    except json.JSONDecodeError:
        return False


@pytest.mark.parametrize("name", ["payroll.json", "talent.json"])
def test_array_items_are_counted_right(expected: dict[str, Any], name: str) -> None:
    items = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    dead = [number for number, item in enumerate(items, start=1) if not isinstance(item, dict)]
    told = expected["files"][name]
    assert dead == [letter["line"] for letter in told["dead_letters"]]
    assert (told["read"], told["loaded"], told["skipped"]) == (len(items), len(items) - len(dead), 0)


def test_expected_books_balance(expected: dict[str, Any]) -> None:
    parts = [*expected["files"].values(), *expected["sources"].values(), expected["totals"]]
    for books in parts:
        assert books["read"] == books["loaded"] + books["dead_lettered"] + books["skipped"]
        assert books["loaded"] == books["accepted"] + books["duplicate"] + books["rejected"]
    for key in ("read", "loaded", "dead_lettered", "skipped", "accepted", "duplicate", "rejected"):
        assert expected["totals"][key] == sum(books[key] for books in expected["sources"].values())
        assert expected["totals"][key] == sum(books[key] for books in expected["files"].values())


def test_failures_stay_clearly_below_the_threshold_in_every_source(expected: dict[str, Any]) -> None:
    for books in (*expected["sources"].values(), expected["totals"]):
        assert 3 < 100 * (books["dead_lettered"] + books["rejected"]) / books["read"] < 6


def test_every_defect_is_there(expected: dict[str, Any]) -> None:
    assert set(expected["defects"]) == {defect.name for defect in DEFECTS}


@pytest.mark.parametrize("seed", [2026, 1, 2, 3])
def test_an_independent_reading_of_the_rules_agrees_record_by_record(tmp_path: Path, seed: int) -> None:
    main(["--seed", str(seed), "--out", str(tmp_path)])
    told = json.loads((tmp_path / "expected.json").read_text(encoding="utf-8"))
    records = []
    for file in FILES:
        records += read(tmp_path / file.name, file.source).records
    verdicts = judge(records, date.fromisoformat(told["valid_for_as_of_from"]))
    for name, books in told["files"].items():
        outcomes = Counter(verdict.outcome for verdict in verdicts if verdict.record.location == name)
        assert outcomes == {outcome: books[outcome] for outcome in ("accepted", "duplicate", "rejected")}
        rejected = [
            (verdict.record.line, verdict.employee.id, sorted(verdict.failed_rules))
            for verdict in verdicts
            if verdict.outcome == "rejected" and verdict.record.location == name
        ]
        assert rejected == [(record["line"], record["id"], record["rules"]) for record in books["rejected_records"]]


def test_accepted_ids_and_emails_are_unique() -> None:
    records = []
    for file in FILES:
        records += read(FOLDER / file.name, file.source).records
    accepted = [verdict.employee for verdict in judge(records, date(2026, 1, 1)) if verdict.outcome == "accepted"]
    assert len({employee.id for employee in accepted}) == len(accepted)
    assert len({employee.email for employee in accepted}) == len(accepted)


def test_time_makes_no_record_valid_or_invalid() -> None:
    records = []
    for file in FILES:
        records += read(FOLDER / file.name, file.source).records
    outcomes = [[verdict.outcome for verdict in judge(records, day)] for day in (date(2026, 1, 1), date(2998, 12, 31))]
    assert outcomes[0] == outcomes[1]


def test_every_email_address_is_at_an_example_domain() -> None:
    for name, content in generate():
        text = content.decode("latin-1" if name in CSV_FILES else "utf-8")
        addresses = re.findall(r"""@+[^\s",'\\]*""", text)
        domains = {address.lower().lstrip("@") for address in addresses}
        assert domains <= {"example.com", "example.org", "example.net", ""}
