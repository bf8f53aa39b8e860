"""Partitions of sources, sources that wait for another, and what happens when one fails."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from foundation.errors import ConfigError
from foundation.settings import load_settings
from ingestion.preview import preview
from tests.ingest_bench import Bench

QUICK = "retry: { attempts: 1, first_wait_seconds: 0.01, timeout_seconds: 5 }"


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1", threaded=True) as running:
        yield running


def bench_of(tmp_path: Path, source: str, settings: str = "") -> Bench:
    return Bench(tmp_path, f"{settings}\nsources:\n{source}")


def shop(partitions: str, more: str = "") -> str:
    return f"""
  shop__products:
    type: api
    url: ${{BASE}}/products
    {QUICK}
    partitions: {partitions}
    {more}
"""


def serve_products(server: HTTPServer, broken: str = "") -> list[dict[str, str]]:
    """An API that answers with what it was asked; the parameters asked for, in their order."""
    asked: list[dict[str, str]] = []

    def answer(request: Request) -> Response:
        asked.append(dict(request.args))
        if broken and broken in request.args.values():
            return Response("broken", status=500)
        return Response(json.dumps([dict(request.args)]), content_type="application/json")

    server.expect_request("/products").respond_with_handler(answer)
    return asked


@pytest.mark.parametrize(
    ("partitions", "params", "names", "asked"),
    [
        (
            "{ by: values, values: [toys, books] }",
            '{ category: "{value}" }',
            ["toys", "books"],
            [{"category": "toys"}, {"category": "books"}],
        ),
        (
            "{ by: range, start: 1, stop: 25, step: 10 }",
            '{ from: "{start}", below: "{stop}" }',
            ["1 to 10", "11 to 20", "21 to 24"],
            [{"from": "1", "below": "11"}, {"from": "11", "below": "21"}, {"from": "21", "below": "25"}],
        ),
        (
            "{ by: hash, buckets: 2 }",
            '{ shard: "{bucket}", of: "{buckets}" }',
            ["0 of 2", "1 of 2"],
            [{"shard": "0", "of": "2"}, {"shard": "1", "of": "2"}],
        ),
        (
            "{ by: dates, start: 2025-12-30, step: 2 }",
            '{ since: "{start}", until: "{stop}" }',
            ["2025-12-30 to 2025-12-31", "2026-01-01 to 2026-01-02"],
            [{"since": "2025-12-30", "until": "2026-01-01"}, {"since": "2026-01-01", "until": "2026-01-03"}],
        ),
    ],
)
def test_each_partition_is_asked_for_on_its_own(
    tmp_path: Path, server: HTTPServer, partitions: str, params: str, names: list[str], asked: list[dict[str, str]]
) -> None:
    seen = serve_products(server)
    bench = bench_of(tmp_path, shop(partitions, f"params: {params}"))
    result = bench.ingest({"BASE": server.url_for("").rstrip("/")})
    assert [each.part.name for each in result.parts] == names
    assert {each.state for each in result.parts} == {"done"}
    assert sorted(map(str, seen)) == sorted(map(str, asked))
    records = bench.query("select record from raw.shop__products")
    assert sorted(str(json.loads(text)) for (text,) in records) == sorted(map(str, asked))
    assert bench.query("select distinct partition from raw.loads order by 1") == sorted((name,) for name in names)


def test_a_partition_fails_alone_and_is_read_again_alone(tmp_path: Path, server: HTTPServer) -> None:
    serve_products(server, broken="books")
    partitions = "{ by: values, values: [toys, books, games] }"
    bench = bench_of(tmp_path, shop(partitions, 'params: { category: "{value}" }'))
    base = {"BASE": server.url_for("").rstrip("/")}
    result = bench.ingest(base)
    assert {each.part.name: each.state for each in result.parts} == {"toys": "done", "books": "failed", "games": "done"}
    assert "answered 500" in result.errors[0]
    server.clear()
    serve_products(server)
    result = bench.ingest(base)
    assert {each.part.name: each.counts["loaded"] for each in result.parts} == {"toys": 0, "books": 1, "games": 0}


def test_partitions_with_priority_come_first(tmp_path: Path, server: HTTPServer) -> None:
    asked = serve_products(server)
    partitions = "{ by: values, values: [a, b, c, d], priority: { c: 2, d: 1 } }"
    bench = bench_of(tmp_path, shop(partitions, 'params: { category: "{value}" }'), "concurrency: 1")
    bench.ingest({"BASE": server.url_for("").rstrip("/")})
    assert [params["category"] for params in asked] == ["c", "d", "a", "b"]


def test_partitions_are_read_side_by_side_within_concurrency(tmp_path: Path, server: HTTPServer) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def answer(request: Request) -> Response:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.2)
        with lock:
            running -= 1
        return Response(json.dumps([dict(request.args)]), content_type="application/json")

    server.expect_request("/products").respond_with_handler(answer)
    partitions = "{ by: hash, buckets: 9 }"
    bench = bench_of(tmp_path, shop(partitions, 'params: { shard: "{bucket}" }'), "concurrency: 3")
    bench.ingest({"BASE": server.url_for("").rstrip("/")})
    assert most == 3


def test_files_are_partitions_and_so_are_globs(tmp_path: Path) -> None:
    bench = bench_of(
        tmp_path,
        """
  hr__people: { type: csv, path: "inbox/*.csv", partitions: { by: files } }
  hr__regions: { type: csv, path: "inbox/{value}/*.csv", partitions: { by: values, values: [eu, us, asia] } }
""",
    )
    for region in ("eu", "us"):
        (bench.inbox / region).mkdir()
        (bench.inbox / region / "a.csv").write_text(f"id\n{region}\n")
        (bench.inbox / f"{region}.csv").write_text(f"id,name\n1,{region}\n")
    result = bench.ingest()
    assert {(each.part.source, each.part.name): each.state for each in result.parts} == {
        ("hr__people", "inbox/eu.csv"): "done",
        ("hr__people", "inbox/us.csv"): "done",
        ("hr__regions", "eu"): "done",
        ("hr__regions", "us"): "done",
        ("hr__regions", "asia"): "failed",
    }
    assert "no file is there (inbox/asia/*.csv)" in result.errors[0]
    assert bench.query("select id, _location from raw.hr__regions order by 1") == [
        ("eu", "inbox/eu/a.csv"),
        ("us", "inbox/us/a.csv"),
    ]


def test_days_that_have_not_come_yet_are_told(tmp_path: Path, server: HTTPServer) -> None:
    asked = serve_products(server)
    partitions = "{ by: dates, start: 2026-01-03, step: 1, priority: { '2026-01-03': 1 } }"
    bench = bench_of(tmp_path, shop(partitions, 'params: { day: "{start}" }'))
    base = {"BASE": server.url_for("").rstrip("/")}
    result = bench.ingest(base)
    assert (asked, result.errors, list(result.sources)) == ([], [], ["shop__products"])
    assert bench.notices() == ["there is no part before 2026-01-03, the start of its partitions"]
    bench.ingest(base)
    assert (asked, bench.notices()) == ([{"day": "2026-01-03"}], [])


def test_a_source_that_fails_fast_stops_the_others(tmp_path: Path) -> None:
    config = """
  hr__first: { type: csv, path: "inbox/none.csv", priority: 1, FAST }
  hr__second: { type: csv, path: "inbox/a.csv" }
"""
    bench = bench_of(tmp_path, config.replace("FAST", "fail_fast: true"), "concurrency: 1")
    (bench.inbox / "a.csv").write_text("id\n1\n")
    result = bench.ingest()
    assert {each.part.source: each.state for each in result.parts} == {"hr__first": "failed", "hr__second": "stopped"}
    assert result.sources["hr__second"].counts["read"] == 0
    assert bench.notices() == ["it failed and is fail_fast: no other source is read"]
    bench.configure("concurrency: 1\nsources:" + config.replace("FAST", "fail_fast: false"))
    result = bench.ingest()
    assert {each.part.source: each.state for each in result.parts} == {"hr__first": "failed", "hr__second": "done"}
    assert bench.query("select id from raw.hr__second") == [("1",)]


def test_a_secret_that_is_not_set_fails_its_source_alone_and_is_named(tmp_path: Path, server: HTTPServer) -> None:
    server.expect_request("/products").respond_with_json([{"id": 1}])
    api = "type: api, rate_limit: { requests: 100 }"
    bench = bench_of(
        tmp_path,
        f"""
  shop__other: {{ {api}, url: "${{BASE}}/products" }}
  shop__nowhere: {{ {api}, url: "${{NO_BASE}}/products" }}
  shop__locked: {{ {api}, url: "${{BASE}}/products", auth: {{ type: bearer, token: "s3cret${{NO_SUCH_SECRET}}" }} }}
""",
    )
    variables = {"BASE": server.url_for("").rstrip("/")}
    result = bench.ingest(variables)
    assert result.sources["shop__other"].counts["loaded"] == 1
    told = "NO_SUCH_SECRET is not set (sources.shop__locked.auth.token in penstock.yml): set it in the environment"
    assert result.sources["shop__locked"].errors == [told]
    settings = load_settings(tmp_path, {})
    looked_at = {found.source: found for found in preview(tmp_path, settings, variables, date(2026, 1, 1))}
    assert str(looked_at["shop__locked"].error) == told
    assert looked_at["shop__other"].error is None


LIST_AND_DETAIL = f"""
  lab__details:
    type: api
    url: ${{BASE}}/datasets/{{id}}
    {QUICK}
    for_each: {{ source: lab__datasets, field: slug }}
  lab__datasets:
    type: api
    url: ${{BASE}}/datasets
    {QUICK}
"""


def serve_datasets(server: HTTPServer, broken: tuple[str, ...]) -> list[str]:
    asked: list[str] = []

    def detail(request: Request) -> Response:
        slug = request.path.removeprefix("/datasets/")
        asked.append(slug)
        if slug in broken:
            return Response("broken", status=500)
        return Response(json.dumps({"slug": slug, "size": len(slug)}), content_type="application/json")

    server.expect_request("/datasets").respond_with_json([{"slug": f"set {number}"} for number in range(5)])
    for number in range(5):
        server.expect_request(f"/datasets/set {number}").respond_with_handler(detail)
    return asked


@pytest.mark.parametrize("only", [(), ("lab__details",)])
def test_details_are_asked_for_each_id_and_fail_alone(
    tmp_path: Path, server: HTTPServer, only: tuple[str, ...]
) -> None:
    asked = serve_datasets(server, broken=("set 2",))
    bench = bench_of(tmp_path, LIST_AND_DETAIL, "concurrency: 1")
    result = bench.ingest({"BASE": server.url_for("").rstrip("/")}, only)
    assert sorted(asked) == [f"set {number}" for number in range(5)]
    counts = result.sources["lab__details"].counts
    assert (counts["read"], counts["loaded"], counts["dead_lettered"]) == (5, 4, 1)
    (letter,) = bench.query("select stage, reason, attempts, record from raw.dead_letters")
    assert letter[:3] == ("fetch", "http_500", 1)
    assert "set 2" in letter[3]


def test_a_field_that_gives_no_id_is_told(tmp_path: Path, server: HTTPServer) -> None:
    asked = serve_datasets(server, broken=())
    bench = bench_of(tmp_path, LIST_AND_DETAIL.replace("field: slug", "field: slugg"))
    result = bench.ingest({"BASE": server.url_for("").rstrip("/")})
    assert (asked, result.errors) == ([], [])
    assert bench.notices() == ["no record of lab__datasets has the field 'slugg', so nothing is asked for"]


def test_no_ids_of_an_empty_list_are_no_mistake(tmp_path: Path, server: HTTPServer) -> None:
    server.expect_request("/datasets").respond_with_json([])
    bench = bench_of(tmp_path, LIST_AND_DETAIL)
    assert bench.ingest({"BASE": server.url_for("").rstrip("/")}).errors == []
    assert bench.notices() == []


def test_no_ids_because_their_source_failed_is_a_failure(tmp_path: Path, server: HTTPServer) -> None:
    server.expect_request("/datasets").respond_with_data("broken", status=500)
    bench = bench_of(tmp_path, LIST_AND_DETAIL)
    result = bench.ingest({"BASE": server.url_for("").rstrip("/")})
    assert {each.part.source: each.state for each in result.parts} == dict.fromkeys(result.sources, "failed")
    (error,) = result.sources["lab__details"].errors
    assert "no id to ask for, because lab__datasets failed" in error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (shop("{ by: values, values: [a] }"), "nothing that tells its parts apart"),
        (shop("{ by: range, start: 1, stop: 5 }", 'params: { a: "{start}" }'), "by: range needs start, stop, step"),
        (shop("{ by: dates, start: 5, step: 1 }", 'params: { a: "{start}" }'), "takes days as yyyy-mm-dd"),
        (
            shop("{ by: range, start: 5, stop: 1, step: 1 }", 'params: { a: "{start}" }'),
            "makes no part: start 5 is not before stop 1",
        ),
        (
            shop("{ by: dates, start: 2026-01-02, stop: 2026-01-02, step: 1 }", 'params: { a: "{start}" }'),
            "makes no part: start 2026-01-02 is not before stop 2026-01-02",
        ),
        (shop("{ by: files }"), "an API has no files"),
        (
            shop("{ by: values, values: [a], priority: { b: 1 } }", 'params: { a: "{value}" }'),
            "names 'b', which is no part of it",
        ),
        (
            shop("{ by: range, start: 0, stop: 1000000000, step: 1 }", 'params: { a: "{start}" }'),
            "makes more than 100,000 parts",
        ),
        (LIST_AND_DETAIL.replace("source: lab__datasets", "source: lab__dataset"), "no API source"),
        (LIST_AND_DETAIL.replace("source: lab__datasets", "source: lab__details"), "waits for lab__details itself"),
    ],
)
def test_a_mistake_in_partitions_is_told(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench_of(tmp_path, source).ingest({"BASE": "http://127.0.0.1:9"})
