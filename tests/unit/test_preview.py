"""What a dry run says of each file, and that it says it of every file."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from foundation.settings import load_settings
from ingestion.ingest import ingest, plan
from ingestion.preview import preview

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
