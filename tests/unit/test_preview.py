"""What a dry run says of each file, and that it says it of every file."""

import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_httpserver import HTTPServer
from rich.console import Console

from foundation.settings import load_settings
from ingestion.ingest import ingest, plan
from ingestion.preview import preview
from operations.dry_run import dry_run

CONFIG = """
sources:
  hr__people:
    type: csv
    path: inbox/*.csv*
  shop__orders:
    type: parquet
    path: inbox/*.parquet
"""


START = datetime(2026, 1, 1, tzinfo=UTC)


def findings(root: Path) -> dict[str, str]:
    return {
        found.location: found.error.one_line() if found.error else found.finding
        for found in preview(root, load_settings(root, {}), {}, START.date())
    }


def run(root: Path, day: int) -> None:
    settings, started_at = load_settings(root, {}), START + timedelta(days=day)
    ingest(
        root,
        settings,
        plan(root, settings, started_at=started_at),
        run_id=f"run-{day}",
        started_at=started_at,
        variables={},
        emit=lambda _: None,
    )


def test_every_file_is_new_known_grown_changed_or_broken(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "penstock.yml").write_text(CONFIG)
    (inbox / "a.csv").write_bytes(b"id\n1\n")
    (inbox / "b.csv").write_bytes(b"id\n2\n")
    (inbox / "c.csv.gz").write_bytes(gzip.compress(b"id\n3\n")[:-1])
    (inbox / "d.csv").write_bytes(b"id\n4\n")
    pq.write_table(pa.table({"id": [1]}), inbox / "a.parquet")
    pq.write_table(pa.table({"id": [2]}), inbox / "b.parquet")
    size = (inbox / "a.parquet").stat().st_size
    broken = (
        "the file cannot be read: it is cut short: its gzip data does not come to its end (inbox/c.csv.gz): "
        "mend it or its permissions, run again"
    )
    assert findings(tmp_path) == {
        "inbox/a.csv": "new, 5 bytes",
        "inbox/b.csv": "new, 5 bytes",
        "inbox/c.csv.gz": broken,
        "inbox/d.csv": "new, 5 bytes",
        "inbox/a.parquet": f"new, {size:,} bytes",
        "inbox/b.parquet": f"new, {size:,} bytes",
    }
    run(tmp_path, 1)
    (inbox / "b.csv").write_bytes(b"id\n2\n3\n")
    (inbox / "d.csv").write_bytes(b"id\n5\n")
    pq.write_table(pa.table({"id": [3]}), inbox / "b.parquet")
    assert findings(tmp_path) == {
        "inbox/a.csv": "nothing new",
        "inbox/b.csv": "grown by 2 bytes",
        "inbox/c.csv.gz": broken,
        "inbox/d.csv": "changed, 5 bytes",
        "inbox/a.parquet": "nothing new",
        "inbox/b.parquet": f"changed, {size:,} bytes",
    }


def said_by_dry_run(root: Path, sources: str) -> list[str]:
    (root / "penstock.yml").write_text(f"sources:\n{sources}")
    out = io.StringIO()
    dry_run(root, load_settings(root, {}), Console(file=out))
    return [line for line in out.getvalue().splitlines() if line.startswith(("api__", "hr__", "${"))]


def test_an_api_that_is_down_is_told_once_and_no_library_speaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", "http://127.0.0.1:9")
    retry = "retry: { attempts: 2, first_wait_seconds: 0.01 }"
    waited, told = said_by_dry_run(tmp_path, f"  api__down: {{ type: api, url: '${{BASE}}/x', {retry} }}\n")
    assert waited.startswith("${BASE}/x: cannot reach the API")
    assert waited.endswith("; next try in 0.0 s")
    assert told.startswith("api__down: cannot reach the API")
    assert told.endswith(" (2 attempts) (${BASE}/x): check that the API is up, then run again")
    assert capfd.readouterr() == ("", "")


def test_each_part_is_told_by_its_name(
    tmp_path: Path, http_server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_server.clear()
    http_server.expect_request("/part", query_string={"of": "b"}).respond_with_data("gone", 404)
    http_server.expect_request("/part", query_string={"of": "a"}).respond_with_json([{"id": 1}])
    monkeypatch.setenv("BASE", http_server.url_for("").rstrip("/"))
    (tmp_path / "a.csv").write_text("id\n1\n")
    lines = said_by_dry_run(
        tmp_path,
        """
  api__parts:
    type: api
    url: ${BASE}/part
    params: { of: "{value}" }
    partitions: { by: values, values: [a, b] }
  api__later:
    type: api
    url: ${BASE}/part
    params: { day: "{start}" }
    partitions: { by: dates, start: 2999-01-01, step: 1 }
  hr__people: { type: csv, path: "*.csv", partitions: { by: files } }
  hr__lost: { type: csv, path: "no/*.csv" }
""",
    )
    assert lines[:-1] == [
        "api__parts, a: ${BASE}/part: answers, 1 record on the first page, new",
        "api__parts, b: the API answered 404: gone (${BASE}/part?of=b): check the source's url and params",
        "api__later: ${BASE}/part: there is no part before 2999-01-01, the start of its partitions",
        "hr__people: a.csv: new, 5 bytes",
    ]
    assert lines[-1].startswith("hr__lost: no file is there (no/*.csv)")
