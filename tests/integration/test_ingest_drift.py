"""Schema drift: new columns come in and are told; what is gone or changed follows the source's policy."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_httpserver import HTTPServer

from tests.ingest_bench import Bench


def bench_of(tmp_path: Path, kind: str, policy: str) -> Bench:
    return Bench(
        tmp_path, f"sources: {{ hr__people: {{ type: {kind}, path: 'inbox/*.{kind}', schema_drift: {policy} }} }}"
    )


def write(bench: Bench, kind: str, name: str, records: list[dict[str, object]]) -> None:
    path = bench.inbox / f"{name}.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == "json":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        names = list(records[0])
        path.write_text("\n".join([",".join(names), *(",".join(map(str, record.values())) for record in records)]))


@pytest.mark.parametrize("policy", ["evolve", "freeze", "dead_letter"])
@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_a_new_column_comes_in_and_is_told_whatever_the_policy(tmp_path: Path, kind: str, policy: str) -> None:
    bench = bench_of(tmp_path, kind, policy)
    write(bench, kind, "a", [{"id": 1, "name": "Ann"}])
    bench.ingest()
    write(bench, kind, "b", [{"id": 2, "name": "Bob", "team": "x"}])
    result = bench.ingest()
    assert (result.errors, result.sources["hr__people"].counts["loaded"]) == ([], 1)
    assert any("schema drift in inbox/b." in told and "team" in told for told in bench.notices())


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_a_column_that_is_gone_follows_the_policy(tmp_path: Path, kind: str) -> None:
    for policy, loaded, letters, words in (
        ("evolve", 1, 0, ""),
        ("freeze", 0, 0, "name"),
        ("dead_letter", 0, 1, ""),
    ):
        root = tmp_path / policy
        root.mkdir()
        bench = bench_of(root, kind, policy)
        write(bench, kind, "a", [{"id": 1, "name": "Ann"}])
        bench.ingest()
        write(bench, kind, "b", [{"id": 2}])
        result = bench.ingest()
        counts = result.sources["hr__people"].counts
        assert (counts["loaded"], counts["dead_lettered"]) == (loaded, letters), policy
        assert bool(result.errors) == (policy == "freeze")
        assert words in "".join(result.errors)
        told = " ".join([*bench.notices(), *result.errors])
        assert "name" in told, policy
        if letters:
            ((reason, record),) = bench.query("select reason, record from raw.dead_letters")
            assert reason == "schema_drift"
            assert "2" in record


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_type_that_changed_follows_the_policy(tmp_path: Path, kind: str) -> None:
    for policy, loaded, letters in (("evolve", 1, 0), ("freeze", 0, 0), ("dead_letter", 0, 1)):
        root = tmp_path / policy
        root.mkdir()
        bench = bench_of(root, kind, policy)
        write(bench, kind, "a", [{"id": 1, "age": 30}])
        bench.ingest()
        write(bench, kind, "b", [{"id": 2, "age": "thirty"}])
        result = bench.ingest()
        counts = result.sources["hr__people"].counts
        assert (counts["loaded"], counts["dead_lettered"]) == (loaded, letters), policy
        assert bool(result.errors) == (policy == "freeze")
        assert "age" in " ".join([*bench.notices(), *result.errors])


@pytest.mark.parametrize("emptied", ["", '{"id": 2, "age"\n'], ids=["empty", "all_broken"])
def test_a_load_without_a_good_record_forgets_no_type(tmp_path: Path, emptied: str) -> None:
    bench = bench_of(tmp_path, "json", "freeze")
    write(bench, "json", "a", [{"id": 1, "age": 30}])
    bench.ingest()
    (bench.inbox / "a.json").write_text(emptied)
    assert bench.ingest().errors == []
    write(bench, "json", "a", [{"id": 3, "age": "thirty"}])
    (error,) = bench.ingest().errors
    assert "age" in error


def test_a_file_without_a_record_forgets_no_column(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "csv", "freeze")
    write(bench, "csv", "a", [{"id": 1, "name": "Ann"}])
    bench.ingest()
    (bench.inbox / "a.csv").write_text("")
    assert bench.ingest().errors == []
    write(bench, "csv", "a", [{"id": 2}])
    (error,) = bench.ingest().errors
    assert "name" in error


def test_a_page_without_a_good_record_forgets_no_type(tmp_path: Path) -> None:
    with HTTPServer(host="127.0.0.1") as server:
        bench = Bench(tmp_path, "sources: { hr__people: { type: api, url: '${BASE}/people', schema_drift: freeze } }")
        base = {"BASE": server.url_for("").rstrip("/")}
        for answer in ([{"id": 1, "age": 30}], []):
            server.expect_oneshot_request("/people").respond_with_json(answer)
            assert bench.ingest(base).errors == []
        server.expect_oneshot_request("/people").respond_with_json([{"id": 2, "age": "thirty"}])
        assert "age" in "".join(bench.ingest(base).errors)


def test_records_that_were_set_aside_teach_no_type(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "parquet", "dead_letter")
    write(bench, "parquet", "a", [{"id": 1, "age": 30}])
    bench.ingest()
    for number, name in enumerate("bc"):
        write(bench, "parquet", name, [{"id": number, "age": "thirty"}])
        assert bench.ingest().sources["hr__people"].counts["dead_lettered"] == 1, name


def test_records_set_aside_for_a_column_that_is_gone_are_told_once(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "csv", "dead_letter")
    write(bench, "csv", "a", [{"id": 1, "name": "Ann"}])
    bench.ingest()
    write(bench, "csv", "b", [{"id": 2}])
    bench.ingest()
    assert [told for told in bench.notices() if "name" in told] == [
        "inbox/b.csv: columns gone: name; its records are dead letters"
    ]


def test_a_frozen_source_goes_on_once_it_is_mended(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "csv", "freeze")
    write(bench, "csv", "a", [{"id": 1, "name": "Ann"}])
    bench.ingest()
    write(bench, "csv", "b", [{"id": 2}])
    assert bench.ingest().errors
    write(bench, "csv", "b", [{"id": 2, "name": "Bob"}])
    assert not bench.ingest().errors
    assert [row[3] for row in bench.people()] == ["1", "2"]


@pytest.mark.parametrize(("policy", "loaded", "letters"), [("evolve", 3, 0), ("freeze", 0, 0), ("dead_letter", 1, 2)])
def test_records_of_an_api_follow_the_policy_one_by_one(tmp_path: Path, policy: str, loaded: int, letters: int) -> None:
    with HTTPServer(host="127.0.0.1") as server:
        bench = Bench(
            tmp_path, f"sources: {{ hr__people: {{ type: api, url: '${{BASE}}/people', schema_drift: {policy} }} }}"
        )
        base = {"BASE": server.url_for("").rstrip("/")}
        server.expect_request("/people").respond_with_json([{"id": 1, "age": 30}])
        bench.ingest(base)
        server.clear()
        later = [{"id": 2, "age": 31, "team": "x"}, {"id": 3, "age": "thirty"}, {"id": 4}]
        server.expect_request("/people").respond_with_json(later)
        result = bench.ingest(base)
    counts = result.sources["hr__people"].counts
    assert (counts["loaded"], counts["dead_lettered"]) == (loaded, letters)
    assert bool(result.errors) == (policy == "freeze")
    assert "age" in " ".join([*bench.notices(), *result.errors])
    if letters:
        assert bench.query("select line, json(record)::varchar from raw.dead_letters order by 1") == [
            (2, '{"id":3,"age":"thirty"}'),
            (3, '{"id":4}'),
        ]
