"""Whatever lies in the inbox: a dead letter or a clear error, every other file and source done, nothing lost."""

import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.ingest_bench import Bench

GOOD = "id,name\n1,Ann\n2,Bob\n"
CONFIG = """
sources:
  hr__people: { type: csv, path: "inbox/*.csv" }
  crm__people: { type: json, path: "inbox/*.json" }
  shop__people: { type: parquet, path: "inbox/*.parquet" }
"""


def loop(folder: Path) -> None:
    (folder / "bad.csv").symlink_to(folder / "other.csv")
    (folder / "other.csv").symlink_to(folder / "bad.csv")


def outside(folder: Path) -> None:
    secret = folder.parent.parent / "secret.csv"
    secret.write_text("id,name\n7,secret\n")
    (folder / "bad.csv").symlink_to(secret)


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "bad.csv")


def write(name: str, data: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return make


PACKED = gzip.compress(b"id,name\n" + b"3,Cy\n" * 10_000)
# What is made of a bad file: errors of the run, and the reasons of its dead letters.
CASES: dict[str, tuple[Callable[[Path], None], int, list[str]]] = {
    "zero bytes": (write("bad.csv", b""), 0, []),
    "zero bytes of JSON": (write("bad.json", b""), 0, []),
    "zero bytes of Parquet": (write("bad.parquet", b""), 0, ["unreadable_file"]),
    "header only": (write("bad.csv", b"id,name\n"), 0, []),
    "NUL bytes": (write("bad.csv", b"id,name\n3,a\0b\n4,Dee\n"), 0, ["not_utf8"]),
    "mixed encodings": (write("bad.csv", "id,name\n3,Zoé\n".encode() + b"4,Zo\xe9\n"), 0, ["not_utf8"]),
    "columns of the same name": (write("bad.csv", b"id,name,name\n3,Cy,x\n"), 0, []),
    "5,000 columns": (write("bad.csv", b",".join(b"c%d" % n for n in range(5000)) + b"\n" + b"," * 4999), 0, []),
    "an injection for a name": (write("bad.csv", b'id,"x"" ); drop table raw.loads; --",select\n3,a,b\n'), 0, []),
    "a web page": (write("bad.csv", b"<!DOCTYPE html><html><body>moved</body></html>\n"), 0, ["unreadable_file"]),
    "deep nesting": (write("bad.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n"), 0, []),
    "deep nesting without an end": (write("bad.json", b"[" * 1_000_000), 0, ["broken_document"]),
    "huge numbers": (write("bad.json", b'{"id": 1' + b"0" * 400 + b', "x": 1e999}\n'), 0, []),
    "keys that are there twice": (write("bad.json", b'{"id": 3, "id": 4}\n'), 0, []),
    "NaN": (write("bad.json", b'{"id": NaN}\n{"id": 3}\n'), 0, ["invalid_json"]),
    "a gzip cut short": (write("bad.csv", PACKED[: len(PACKED) // 2]), 1, []),
    "a gzip with a wrong checksum": (write("bad.csv", PACKED[:-6] + b"\0\0" + PACKED[-4:]), 1, []),
    "a folder for a file": (lambda folder: (folder / "bad.csv").mkdir(), 1, []),
    "a loop of links": (loop, 2, []),
    "a link to nowhere": (lambda folder: (folder / "bad.csv").symlink_to(folder / "nowhere"), 1, []),
    "a link that leads outside": (outside, 1, []),
    "a pipe for a file": (fifo, 1, []),
    "a spreadsheet": (write("bad.csv", b"PK\x03\x04" + bytes(100)), 1, []),
    "no Parquet": (write("bad.parquet", b"PAR1 but not really"), 0, ["unreadable_file"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_told_and_the_others_are_done(tmp_path: Path, case: str) -> None:
    make, errors, reasons = CASES[case]
    root = tmp_path / "project"
    root.mkdir()
    bench = Bench(root, CONFIG)
    (bench.inbox / "good.csv").write_text(GOOD)
    (bench.inbox / "good.json").write_text('[{"id": 1}]')
    duckdb.sql("select 1 as id").write_parquet(str(bench.inbox / "good.parquet"))
    make(bench.inbox)
    result = bench.ingest()
    assert len(result.errors) == errors, result.errors
    for error in result.errors:
        assert "bad.csv" in error or "other.csv" in error
        assert "Traceback" not in error
    assert {name: found.counts["loaded"] >= 1 for name, found in result.sources.items()} == {
        "hr__people": True,
        "crm__people": True,
        "shop__people": True,
    }
    assert bench.query("select id from raw.hr__people where _location = 'inbox/good.csv' order by 1") == [
        ("1",),
        ("2",),
    ]
    letters = bench.query("select table_name from information_schema.tables where table_name = 'dead_letters'")
    found = bench.query("select reason from raw.dead_letters order by 1") if letters else []
    assert [reason for (reason,) in found] == reasons
    assert bench.query("select count(*) from raw.hr__people where name = 'secret'") == [(0,)]
    for counts in (found.counts for found in result.sources.values()):
        assert counts["read"] == counts["loaded"] + counts["dead_lettered"] + counts["skipped"]


@pytest.mark.parametrize("data", [random.Random(1).randbytes(5000), b"id,name\n1,Ann\n"], ids=["noise", "text"])
@pytest.mark.parametrize(
    ("ending", "kind"), [("gz", "gzip"), ("zst", "zstd"), ("bz2", "bzip2"), ("xz", "xz"), ("GZ", "gzip")]
)
def test_a_file_that_is_packed_only_by_its_name_is_refused_and_the_others_go_on(
    tmp_path: Path, data: bytes, ending: str, kind: str
) -> None:
    bench = Bench(tmp_path, "sources: { hr__people: { type: csv, path: 'inbox/*' } }")
    (bench.inbox / f"bad.csv.{ending}").write_bytes(data)
    (bench.inbox / "empty.csv.gz").write_bytes(b"")
    (bench.inbox / "good.csv").write_text("id,name\n1,Ann\n")
    result = bench.ingest().sources["hr__people"]
    (error,) = result.errors
    assert f"it is named .{ending.lower()} and is not packed with {kind}" in error
    assert f"(inbox/bad.csv.{ending})" in error
    assert (result.counts["read"], result.counts["dead_lettered"]) == (1, 0)


def test_a_file_that_leads_outside_is_read_where_that_is_allowed(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    bench = Bench(root, CONFIG)
    (bench.inbox / "a.json").write_text("[]")
    outside(bench.inbox)
    duckdb.sql("select 1 as id").write_parquet(str(bench.inbox / "good.parquet"))
    assert "allowed_roots" in bench.ingest().errors[0]
    bench.configure(f"allowed_roots: [{json.dumps(str(tmp_path))}]\n{CONFIG}")
    assert bench.ingest().errors == []
    assert bench.query("select name from raw.hr__people") == [("secret",)]


ONE_LINE = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.ingest_bench import Bench
result = Bench(Path({folder!r}), None).ingest()
counts = result.sources["hr__people"].counts
# Not getrusage, which counts the process that this one was forked from.
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
print(result.errors, counts["loaded"], counts["dead_lettered"], peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
@pytest.mark.parametrize(("kind", "start"), [("csv", b"id,name\n1,Ann\n2,"), ("json", b'{"id": 1}\n{"id": "')])
def test_a_line_without_end_is_one_dead_letter_and_needs_no_memory(tmp_path: Path, kind: str, start: bytes) -> None:
    bench = Bench(tmp_path, f"sources: {{ hr__people: {{ type: {kind}, path: 'inbox/a.*' }} }}")
    size = 600 * 1024 * 1024
    with (bench.inbox / f"a.{kind}").open("wb") as file:
        file.write(start)
        for _ in range(size // (1 << 20)):
            file.write(b"x" * (1 << 20))
        file.write(b'\n3,"Cy"\n' if kind == "csv" else b'\n{"id": 3}\n')
    script = ONE_LINE.format(root=str(ROOT), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    errors, loaded, letters, megabytes = done.stdout.split()
    assert (errors, loaded, letters) == ("[]", "2", "1"), done.stderr
    assert int(megabytes) < 700
    ((reason, length, kept),) = bench.query("select reason, byte_length, len(record) from raw.dead_letters")
    assert reason in ("line_too_long", "record_too_large")
    assert length >= size > kept


_NAMES = st.sampled_from(["a.csv", "b.csv", "a.json", "b.json"])
_PIECES = st.lists(
    st.sampled_from([*(bytes([code]) for code in b'1,"\n\r\xff\0{}[] '), b"\r\n", b'{"id": 1}', b"id,name\n"]),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(_NAMES, _PIECES.map(b"".join), min_size=1))
def test_whatever_the_files_are_every_record_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("project"), CONFIG)
    for name, data in files.items():
        (bench.inbox / name).write_bytes(data)
    result = bench.ingest()
    for name, found in result.sources.items():
        counts = found.counts
        assert counts["read"] == counts["loaded"] + counts["dead_lettered"] + counts["skipped"]
        if counts["loaded"]:
            assert bench.query(f"select count(*) from raw.{name}") == [(counts["loaded"],)]
    letters = sum(found.counts["dead_lettered"] for found in result.sources.values())
    if letters:
        assert bench.query("select count(*), count(distinct dead_letter_id) from raw.dead_letters") == [
            (letters, letters)
        ]
    assert all(found.counts["read"] == 0 for found in bench.ingest().sources.values())
