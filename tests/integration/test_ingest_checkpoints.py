"""Checkpoints inside a source: a kill loses at most one package, and the next run reads on where raw ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.conftest import ROOT
from tests.ingest_bench import Bench

RECORDS, PACKAGE = 5000, 500
# An ingest of small packages in a process of its own, killed when it is about to land the fourth, or in its load.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import dlt
from ingestion import packages, pipeline
from ingestion.readers.apis import pages as http_pages
from ingestion.readers.json_files import files as json_files
from ingestion.readers.parquet_files import files as parquet_files
from ingestion.readers.framing import read_chunks
from tests.ingest_bench import Bench
packages.LARGEST_ROWS = {package}
read_chunks.__kwdefaults__["chunk_bytes"] = 4096
json_files.CHUNK_BYTES = 4096
parquet_files.PARCEL_ROWS = parquet_files.WEIGHED_ROWS = 200
http_pages.BUNDLE_PAGES = 2
landed = 0
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def land(*arguments):
    global landed
    landed += 1
    if landed == 4:
        if {moment!r} == "load":
            dlt.Pipeline.load = die
        else:
            die()
    original(*arguments)
original, pipeline.land = pipeline.land, land
Bench(Path({folder!r}), None).ingest({variables!r})
"""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1", threaded=True) as running:
        yield running


def records() -> list[dict[str, str]]:
    return [{"id": str(number), "name": f"person {number}"} for number in range(RECORDS)]


def write_csv(bench: Bench) -> None:
    lines = [",".join(record.values()) for record in records()]
    (bench.inbox / "a.csv").write_text("id,name\n" + "\n".join(lines) + "\n")


def write_lines(bench: Bench) -> None:
    (bench.inbox / "a.json").write_text("".join(json.dumps(record) + "\n" for record in records()))


def write_array(bench: Bench) -> None:
    (bench.inbox / "a.json").write_text(json.dumps(records(), indent=1))


def write_parquet(bench: Bench) -> None:
    pq.write_table(pa.Table.from_pylist(records()), bench.inbox / "a.parquet", row_group_size=300)


FILES: dict[str, tuple[str, Callable[[Bench], None]]] = {
    "csv": ("csv", write_csv),
    "lines": ("json", write_lines),
    "array": ("json", write_array),
    "parquet": ("parquet", write_parquet),
}


def kill_in_the_middle(bench: Bench, moment: str, variables: dict[str, str]) -> None:
    script = KILLED.format(root=str(ROOT), folder=str(bench.root), package=PACKAGE, moment=moment, variables=variables)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def landed(bench: Bench, table: str) -> int:
    """Records in complete loads."""
    ((count,),) = bench.query(
        f"select count(*) from raw.{table} where _load_id in (select load_id from raw.loads as loads "
        "where exists (select 1 from raw._dlt_loads as done where done.load_id = loads._dlt_load_id and status = 0))"
    )
    return int(count)


@pytest.mark.parametrize("moment", ["package", "load"])
@pytest.mark.parametrize("form", FILES)
def test_a_killed_ingest_of_a_file_goes_on_behind_its_last_package(tmp_path: Path, form: str, moment: str) -> None:
    kind, write = FILES[form]
    bench = Bench(tmp_path, f"sources: {{ hr__people: {{ type: {kind}, path: 'inbox/a.*' }} }}")
    write(bench)
    kill_in_the_middle(bench, moment, {})
    before = landed(bench, "hr__people")
    assert 3 * PACKAGE <= before < RECORDS
    result = bench.ingest()
    # What was packed when the kill came is loaded from the package; the rest is read, and nothing before it.
    assert result.sources["hr__people"].counts["read"] <= RECORDS - before
    assert landed(bench, "hr__people") == RECORDS
    column = "id" if kind in ("csv", "parquet") else "record ->> 'id'"
    assert bench.query(f"select count(*), count(distinct {column}) from raw.hr__people") == [(RECORDS, RECORDS)]
    assert bench.ingest().sources["hr__people"].counts["read"] == 0


def test_a_killed_walk_over_pages_goes_on_at_the_next_page(tmp_path: Path, server: HTTPServer) -> None:
    asked: list[int] = []

    def answer(request: Request) -> Response:
        asked.append(page := int(request.args["page"]))
        found = records()[100 * page - 100 : 100 * page]
        return Response(json.dumps(found), content_type="application/json")

    server.expect_request("/people").respond_with_handler(answer)
    bench = Bench(
        tmp_path,
        "concurrency: 1\nsources: { hr__people: { type: api, url: '${BASE}/people', "
        "pagination: { type: page, size: 100, size_param: limit } } }",
    )
    base = {"BASE": server.url_for("").rstrip("/")}
    kill_in_the_middle(bench, "package", base)
    before = landed(bench, "hr__people")
    assert 3 * PACKAGE <= before < RECORDS
    asked.clear()
    result = bench.ingest(base)
    assert min(asked) == before // 100 + 1
    assert result.sources["hr__people"].counts["read"] == RECORDS - before
    assert bench.query("select count(*), count(distinct record ->> 'id') from raw.hr__people") == [(RECORDS, RECORDS)]


def test_ids_of_pages_before_a_kill_are_asked_for_too(tmp_path: Path, server: HTTPServer) -> None:
    def answer(request: Request) -> Response:
        page = int(request.args["page"])
        return Response(json.dumps(records()[100 * page - 100 : 100 * page]), content_type="application/json")

    server.expect_request("/people").respond_with_handler(answer)
    server.expect_request("/detail").respond_with_json({"is": "there"})
    bench = Bench(
        tmp_path,
        "concurrency: 1\nsources:\n  hr__people: { type: api, url: '${BASE}/people', "
        "pagination: { type: page, size: 100, size_param: limit } }\n"
        "  hr__details: { type: api, url: '${BASE}/detail?id={id}', for_each: { source: hr__people, field: id } }",
    )
    base = {"BASE": server.url_for("").rstrip("/")}
    kill_in_the_middle(bench, "package", base)
    assert bench.ingest(base).sources["hr__details"].counts["read"] == RECORDS


def test_a_machine_that_has_only_the_warehouse_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "sources: { hr__people: { type: csv, path: 'inbox/a.*' } }")
    write_csv(bench)
    kill_in_the_middle(bench, "package", {})
    before = landed(bench, "hr__people")
    for folder in ("dlt", "tmp"):
        os.rename(bench.root / ".penstock" / folder, bench.root / f"lost {folder}")  # noqa: PTH104
    assert bench.ingest().sources["hr__people"].counts["read"] == RECORDS - before
    assert bench.query("select count(*), count(distinct id) from raw.hr__people") == [(RECORDS, RECORDS)]
