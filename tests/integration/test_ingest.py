"""The ingest stage over real files and a real warehouse: what is new is loaded, once, and the state travels with it."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from tests.ingest_bench import START, Bench

CONFIG = """
sources:
  hr__people:
    type: csv
    path: inbox/*.csv
    columns: [id, name]
  crm__people:
    type: json
    path: inbox/*.json
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, CONFIG)
    (bench.inbox / "a.json").write_text('[{"id": 1}]')
    return bench


def test_rows_carry_where_they_came_from(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    bench.ingest()
    (row,) = bench.query(
        "select source, _location, _line, run_id, _loaded_at, _content_hash = content_hash from raw.hr__people "
        "inner join raw.loads on _load_id = load_id"
    )
    assert row == ("hr__people", "inbox/a.csv", 2, "run-1", START + timedelta(days=1), True)


def test_only_what_is_new_is_read(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    assert bench.ingest().sources["hr__people"].counts["loaded"] == 1
    assert bench.ingest().sources["hr__people"].counts["read"] == 0
    with (bench.inbox / "a.csv").open("a") as file:
        file.write("2,Bob\n")
    (bench.inbox / "b.csv").write_text("id,name\n3,Cy\n")
    assert bench.ingest().sources["hr__people"].counts["read"] == 2
    assert bench.people() == [
        ("run-1", "inbox/a.csv", 2, "1", "Ann"),
        ("run-3", "inbox/a.csv", 3, "2", "Bob"),
        ("run-3", "inbox/b.csv", 2, "3", "Cy"),
    ]


def test_a_late_file_with_an_old_time_and_a_rewrite_under_the_same_time_are_read(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    os.utime(bench.inbox / "a.csv", (1_000_000_000, 1_000_000_000))
    bench.ingest()
    (bench.inbox / "late.csv").write_text("id,name\n2,Bob\n")
    os.utime(bench.inbox / "late.csv", (900_000_000, 900_000_000))
    (bench.inbox / "a.csv").write_text("id,name\n1,Eve\n")
    os.utime(bench.inbox / "a.csv", (1_000_000_000, 1_000_000_000))
    bench.ingest()
    assert [row[4] for row in bench.people()] == ["Ann", "Eve", "Bob"]


def test_a_file_that_goes_back_to_what_it_was_is_new_each_time(bench: Bench) -> None:
    for name in ("Ann", "Eve", "Ann"):
        (bench.inbox / "a.csv").write_text(f"id,name\n1,{name}\n")
        bench.ingest()
    assert [(row[0], row[4]) for row in bench.people()] == [("run-1", "Ann"), ("run-2", "Eve"), ("run-3", "Ann")]


def test_a_renamed_file_and_a_copy_are_not_loaded_again(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    shutil.copy(bench.inbox / "a.csv", bench.inbox / "b.csv")
    result = bench.ingest().sources["hr__people"]
    assert (result.counts["loaded"], result.counts["skipped"]) == (1, 1)
    (bench.inbox / "a.csv").rename(bench.inbox / "c.csv")
    assert bench.ingest().sources["hr__people"].counts["loaded"] == 0
    assert bench.notices() == ["inbox/c.csv holds the same as inbox/b.csv, which is loaded; skipped"]


def test_a_renamed_document_is_not_loaded_again(bench: Bench) -> None:
    (bench.inbox / "a.json").write_text('[{"id": 1},\n{"id": 2}\n]\n')
    (bench.inbox / "a.csv").write_text("id\n1\n")
    bench.ingest()
    (bench.inbox / "a.json").rename(bench.inbox / "b.json")
    assert bench.ingest().sources["crm__people"].counts["loaded"] == 0
    assert bench.notices() == ["inbox/b.json holds the same as inbox/a.json, which is loaded; skipped"]


def test_a_new_column_comes_into_raw_and_is_told(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    bench.ingest()
    (bench.inbox / "b.csv").write_text("name,id,Job Title\nBob,2,clerk\n")
    bench.ingest()
    assert bench.query("select id, name, job_title from raw.hr__people order by id") == [
        ("1", "Ann", None),
        ("2", "Bob", "clerk"),
    ]
    assert "schema drift in inbox/b.csv: new columns job_title" in bench.notices()


def test_a_column_that_every_file_lacks_is_there_and_empty(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id\n1\n")
    bench.ingest()
    assert bench.query("select id, name from raw.hr__people") == [("1", None)]
    assert bench.notices() == ["schema drift in inbox/a.csv: columns gone name"]


def test_a_fresh_machine_that_has_only_the_warehouse_goes_on(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    bench.ingest()
    shutil.rmtree(bench.root / ".penstock" / "dlt")
    with (bench.inbox / "a.csv").open("a") as file:
        file.write("2,Bob\n")
    assert bench.ingest().sources["hr__people"].counts["read"] == 1
    assert [row[3] for row in bench.people()] == ["1", "2"]


def test_one_broken_source_stops_no_other(bench: Bench) -> None:
    (bench.inbox / "a.csv").mkdir()
    result = bench.ingest()
    assert "it is a folder" in result.errors[0]
    assert result.sources["crm__people"].counts["loaded"] == 1


def test_a_truncated_gzip_is_an_error_and_loads_nothing(bench: Bench) -> None:
    import gzip

    packed = gzip.compress(("id,name\n" + "".join(f"{n},Ann\n" for n in range(10_000))).encode())
    (bench.inbox / "a.csv").write_bytes(packed[: len(packed) // 2])
    (bench.inbox / "b.csv").write_bytes(gzip.compress(b"id,name\n1,Ann\n"))
    result = bench.ingest()
    assert len(result.errors) == 1
    assert "a.csv" in result.errors[0]
    assert bench.people() == [("run-1", "inbox/b.csv", 2, "1", "Ann")]


def test_a_package_that_was_cut_off_is_finished_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import dlt

    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    with monkeypatch.context() as broken:
        broken.setattr(dlt.Pipeline, "load", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bench.ingest()
    (bench.inbox / "b.csv").write_text("id,name\n2,Bob\n")
    bench.ingest()
    assert bench.people() == [("run-1", "inbox/a.csv", 2, "1", "Ann"), ("run-2", "inbox/b.csv", 2, "2", "Bob")]
    assert "finished what an interrupted run had packed" in bench.notices()
