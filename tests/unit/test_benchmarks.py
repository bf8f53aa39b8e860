"""The benchmarks' own promises: what they generate, how they measure, what they write."""

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks import api_server
from benchmarks.benches import find_benches
from benchmarks.data import Dataset, Format, make_dataset
from benchmarks.measure import Command, Plan, Subject, SubjectError, expect_rows, measure, run_command
from tests.conftest import ROOT

FORMATS: tuple[Format, ...] = ("csv", "ndjson", "json", "pages")
ROWS = 4_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of generated data."""
    return tmp_path_factory.mktemp("benchmarks")


def _make(folder: Path, format: Format, **options: Any) -> Dataset:
    return make_dataset(folder, format, ROWS, malformed=0.02, invalid=0.05, page_size=300, **options)


@pytest.mark.parametrize("format", FORMATS)
def test_a_seed_makes_the_same_bytes_each_time_and_another_seed_others(
    folder: Path, tmp_path: Path, format: Format
) -> None:
    first = _make(folder, format).path.read_bytes()
    assert _make(tmp_path, format).path.read_bytes() == first
    assert _make(tmp_path, format, seed=1).path.read_bytes() != first


def test_a_dataset_is_made_once(folder: Path) -> None:
    made = _make(folder, "csv")
    before = made.path.stat().st_mtime_ns
    assert _make(folder, "csv") == made
    assert made.path.stat().st_mtime_ns == before


def test_a_small_file_is_the_head_of_a_large_one(folder: Path) -> None:
    large = make_dataset(folder, "csv", 2_000).path.read_bytes()
    assert large.startswith(make_dataset(folder, "csv", 500).path.read_bytes())


def _broken_line_of_csv(line: str) -> str:
    try:
        (fields,) = csv.reader([line], strict=True)
    except csv.Error:
        return "text_after_quote"
    return "too_few_fields" if len(fields) < 10 else "too_many_fields" if len(fields) > 10 else ""


def _broken_rule(record: dict[str, Any]) -> str:
    if int(record["age"]) < 16:
        return "age_below_16"
    if "@" not in record["email"]:
        return "email_without_at"
    if record["department"] == "Legal":
        return "department_unknown"
    if str(record["salary"]).startswith("-"):
        return "salary_negative"
    return "join_date_no_date" if record["joinDate"] == "not-a-date" else ""


def _count(kinds: Counter[str]) -> dict[str, int]:
    return {kind: count for kind, count in kinds.items() if kind}


def test_the_counts_of_a_csv_file_are_those_of_its_lines(folder: Path) -> None:
    made = _make(folder, "csv")
    header, *lines = made.path.read_text(encoding="utf-8").splitlines()
    kinds = [_broken_line_of_csv(line) for line in lines]
    sound = [line for line, kind in zip(lines, kinds, strict=True) if not kind]
    assert len(lines) == made.rows == ROWS
    assert _count(Counter(kinds)) == made.malformed
    assert len(sound) == made.loadable
    assert _count(Counter(_broken_rule(record) for record in csv.DictReader([header, *sound]))) == made.invalid
    assert any('"$' in line for line in sound)
    assert any('{""office"": ' in line for line in sound)


def test_the_counts_of_an_ndjson_file_are_those_of_its_lines(folder: Path) -> None:
    made = _make(folder, "ndjson")
    records, broken = [], 0
    for line in made.path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line, parse_constant=lambda _: {}["no JSON"]))
        except (ValueError, KeyError):
            broken += 1
    assert len(records) + broken == ROWS
    assert broken == made.dead_letters > 0
    assert _count(Counter(map(_broken_rule, records))) == made.invalid


@pytest.mark.parametrize("format", ["json", "pages"])
def test_the_counts_of_an_array_and_of_pages_are_those_of_their_items(folder: Path, format: Format) -> None:
    made = _make(folder, format)
    text = made.path.read_text(encoding="utf-8")
    pages = [json.loads(text)] if format == "json" else [json.loads(line)["data"] for line in text.splitlines()]
    records = [item for page in pages for item in page if isinstance(item, dict)]
    assert sum(map(len, pages)) == ROWS
    assert ROWS - len(records) == made.dead_letters == sum(made.malformed.values()) > 0
    assert _count(Counter(map(_broken_rule, records))) == made.invalid
    if format == "pages":
        assert [len(page) for page in pages] == [300] * 13 + [100]


def _python(code: str, *arguments: str) -> Command:
    return Command((sys.executable, "-c", code, *arguments))


def test_the_memory_of_children_counts(tmp_path: Path) -> None:
    child = "import time; held = bytearray(80_000_000); time.sleep(1)"
    parent = f"import subprocess, sys; p = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(2)]"
    measured = run_command(_python(f"{parent}; [one.wait() for one in p]"), tmp_path, 60)
    assert measured.peak_mb > 160
    assert 80 < measured.peak_process_mb < 160


def test_the_memory_of_who_measures_does_not_count(tmp_path: Path) -> None:
    held = bytearray(200_000_000)
    assert run_command(_python("pass"), tmp_path, 60).peak_mb < 100
    del held


def test_a_run_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = "import subprocess, sys; p = subprocess.Popen(['sleep', '600'])"
    code = f"{child}; open(sys.argv[1], 'w').write(str(p.pid)); p.wait()"
    with pytest.raises(SubjectError, match=r"not done after 1.5 s"):
        run_command(_python(code, str(note)), tmp_path, 1.5)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(note.read_text()))


def test_a_subject_sees_no_settings_of_the_one_who_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SIZE", "7")
    found = run_command(_python("import os; print('BATCH_SIZE' in os.environ, os.environ['TMPDIR'])"), tmp_path, 60)
    assert found.output.split() == ["False", str(tmp_path / "tmp")]


def test_subjects_take_turns_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    turns = []

    def subject(name: str, rows: int, found: int) -> Subject:
        def prepare(_folder: Path) -> Command:
            turns.append(name)
            return _python("pass")

        return Subject(name, rows, prepare, lambda _folder, _output: expect_rows(found, rows))

    said: list[str] = []
    plan = Plan(2, True, 60, tmp_path, said.append)
    subjects = [subject("whole", 100, 100), subject("lossy", 100, 99), subject("slice", 10, 10)]
    whole, lossy, part = measure("a bench", subjects, "whole", plan)
    assert turns == ["whole", "lossy", "slice", "whole", "slice", "whole", "slice"]
    assert lossy.error == "99 rows instead of 100"
    assert (lossy.median_s, lossy.ratio) == (None, None)
    assert (whole.runs, whole.ratio, whole.time_ratio) == (2, 1.0, 1.0)
    assert part.ratio is not None
    assert part.time_ratio is not None
    assert part.ratio == pytest.approx(10 * part.time_ratio, rel=0.01)  # of a tenth of the rows, so per row
    assert list(tmp_path.iterdir()) == []


def test_the_api_serves_every_page_and_refuses_the_share_asked_for(folder: Path) -> None:
    pages = _make(folder, "pages")
    lines = pages.path.read_bytes().splitlines()
    with api_server.serve(pages.path, 300, failure_rate=0.25, latency=0.001) as address, httpx.Client() as client:
        assert client.get(f"{address}/records?per_page=299&page=1").status_code == 400
        client.post(f"{address}/reset")
        statuses: Counter[int] = Counter()
        for number in range(1, 15):
            while (answer := client.get(f"{address}/records?page={number}&per_page=300")).status_code == 503:
                statuses[503] += 1
            statuses[answer.status_code] += 1
            assert answer.content == lines[number - 1]
        past_the_end = client.get(f"{address}/records?page=15&per_page=300").json()
        told = client.get(f"{address}/stats").json()
    assert past_the_end["data"] == []
    assert statuses[200] == 14
    assert told["refused"] == statuses[503] == round(0.25 * (told["requests"]), 0)
    assert len(told["latencies_ms"]) == told["pages"] == 15
    assert min(told["latencies_ms"]) >= 1


def test_the_api_ends_with_the_process_that_started_it(folder: Path) -> None:
    with api_server.serve(_make(folder, "pages").path, 300) as address:
        assert httpx.get(f"{address}/stats").json()["requests"] == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/stats")


def test_every_bench_names_the_subject_that_it_compares_with() -> None:
    benches = find_benches()
    assert list(benches) == [
        *("csv_to_raw", "csv_with_bad_lines", "ndjson_to_raw", "api", "api_with_latency", "scaling"),
        *("publish_first", "publish_change", "publish_nothing", "publish_readers", "whole_run", "products", "shop_day"),
    ]
    assert all(bench.TITLE and bench.AGAINST for bench in benches.values())


def _run(module: str, *arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_quick_bench_writes_what_it_measured(folder: Path, tmp_path: Path) -> None:
    kept = {"bench": "api", "subject": "penstock", "against": "httpx loop", "rows": 1, "note": "of an earlier run"}
    kept |= {"runs": 1, "median_s": 1.0, "ratio": 1.0, "peak_mb": 1.0, "rows_per_s": 1.0, "date": "2000-01-01T00:00Z"}
    kept |= {"machine": {}, "versions": {}}
    (tmp_path / "latest.json").write_text(json.dumps([kept]))
    options = ("--only", "csv_to_raw", "--subject", "penstock", "--data-dir", str(folder), "--out", str(tmp_path))
    _run("benchmarks", "--quick", *options)
    *measured, api = json.loads((tmp_path / "latest.json").read_text())
    assert api == kept
    assert [(one["bench"], one["subject"], one["against"]) for one in measured] == [
        ("csv_to_raw", "penstock", "duckdb"),
        ("csv_to_raw", "duckdb", "duckdb"),
    ]
    for one in measured:
        assert (one["rows"], one["runs"], one["error"]) == (5_000, 1, "")
        assert one["median_s"] > 0
        assert one["all_s"] == [one["median_s"]]
        assert 20 < one["peak_mb"] < 2_000
        assert one["ratio"] == pytest.approx(one["median_s"] / measured[1]["median_s"], rel=0.01)
    assert 0 < measured[0]["own_s"] < measured[0]["median_s"]
    assert "Penstock beside other ways" in (tmp_path / "latest.svg").read_text()


def test_a_load_test_tells_each_cell(folder: Path, tmp_path: Path) -> None:
    options = ("--batch-sizes", "100", "--concurrencies", "2", "--data-dir", str(folder), "--out", str(tmp_path))
    _run("benchmarks.loadtest", *options, TOTAL_RECORDS="1500", FAILURE_RATE="0.1", LATENCY_MS="5")
    report = json.loads((tmp_path / "loadtest.json").read_text())
    (cell,) = report["cells"]
    assert (report["total_records"], report["failure_rate"]) == (1500, 0.1)
    assert (cell["batch_size"], cell["concurrency"], cell["error"]) == (100, 2, "")
    assert cell["records_per_s"] == pytest.approx(1500 / cell["ingest_s"], rel=0.01)
    assert cell["writes_per_s"] > 0.9 * cell["records_per_s"]
    assert 5 <= cell["latency_p50_ms"] <= cell["latency_p95_ms"]
    assert cell["requests"] >= 16
    assert cell["refused"] in (1, 2)
    assert cell["dead_letter_rate"] == pytest.approx(0.05, abs=0.02)
    assert "Records per second" in (tmp_path / "loadtest.svg").read_text()
