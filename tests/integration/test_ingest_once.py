"""Exactly once as models see it: ties at the cursor, late records, shifting clocks, copies and shared keys."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.ingest_bench import START, Bench

CONFIG = """
sources:
  talent__people:
    type: api
    url: ${BASE}/people
    cursor_path: at
    cursor_param: since
    cursor_lag: LAG
    pagination: { type: page, size: 2, size_param: per_page }
"""


class People:
    """An API over records that grow; it gives those with `at` at or after `since`, or only after it."""

    def __init__(self, server: HTTPServer, *, is_inclusive: bool) -> None:
        self.records: list[dict[str, Any]] = []
        self._is_inclusive = is_inclusive
        self.base = {"BASE": server.url_for("").rstrip("/")}
        server.expect_request("/people").respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        since, page = request.args.get("since", ""), int(request.args["page"])
        found = [one for one in self.records if one["at"] > since or (self._is_inclusive and one["at"] == since)]
        return Response(json.dumps(found[2 * page - 2 : 2 * page]), content_type="application/json")


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1", threaded=True) as running:
        yield running


def ids(bench: Bench) -> list[int]:
    """The id of every record in raw, each as often as it is there."""
    return [int(json.loads(text)["id"]) for (text,) in bench.query("select record from raw.talent__people order by 1")]


def test_records_that_tie_at_the_cursor_are_loaded_once_each(tmp_path: Path, server: HTTPServer) -> None:
    people, bench = People(server, is_inclusive=True), Bench(tmp_path, CONFIG.replace("LAG", "0"))
    people.records = [{"id": number, "at": "2026-01-02T00:00:00Z"} for number in (1, 2, 3)]
    bench.ingest(people.base)
    people.records += [{"id": 4, "at": "2026-01-02T00:00:00Z"}, {"id": 5, "at": "2026-01-03T00:00:00Z"}]
    counts = bench.ingest(people.base).sources["talent__people"].counts
    assert (counts["read"], counts["loaded"], counts["skipped"]) == (5, 2, 3)
    assert ids(bench) == [1, 2, 3, 4, 5]


def test_records_that_come_late_are_loaded_within_the_lag_window(tmp_path: Path, server: HTTPServer) -> None:
    people, bench = People(server, is_inclusive=False), Bench(tmp_path, CONFIG.replace("LAG", "3600"))
    people.records = [{"id": 1, "at": "2026-01-02T11:30:00Z"}, {"id": 2, "at": "2026-01-02T12:00:00Z"}]
    bench.ingest(people.base)
    people.records += [{"id": 3, "at": "2026-01-02T11:15:00Z"}, {"id": 4, "at": "2026-01-02T10:00:00Z"}]
    bench.ingest(people.base)
    assert ids(bench) == [1, 2, 3], "half an hour late is in the window, two hours late is not"
    assert bench.ingest(people.base).sources["talent__people"].counts["loaded"] == 0


def test_a_changed_record_in_the_lag_window_is_loaded_again(tmp_path: Path, server: HTTPServer) -> None:
    people, bench = People(server, is_inclusive=True), Bench(tmp_path, CONFIG.replace("LAG", "3600"))
    people.records = [{"id": 1, "at": "2026-01-02T12:00:00Z", "name": "Ann"}]
    bench.ingest(people.base)
    people.records[0]["name"] = "Anna"
    bench.ingest(people.base)
    assert ids(bench) == [1, 1]


def test_a_clock_that_goes_back_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "sources: { hr__people: { type: csv, path: 'inbox/*.csv', columns: [id, name] } }")
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    bench.ingest()
    with (bench.inbox / "a.csv").open("a") as file:
        file.write("2,Bob\n")
    bench.runs -= 3  # the next run seems to start two days before the last one
    bench.ingest()
    assert any("the clock is behind the last load" in told for told in bench.notices())
    assert bench.ingest().sources["hr__people"].counts["read"] == 0
    assert sorted(row[3] for row in bench.people()) == ["1", "2"]
    times = [time for (time,) in bench.query("select distinct _loaded_at from raw.hr__people order by 1")]
    assert times == [START + timedelta(days=1), START + timedelta(days=1, microseconds=1)]


def test_two_sources_that_share_keys_and_bytes_keep_their_own_rows(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        "sources: { hr__people: { type: csv, path: inbox/a.csv }, crm__people: { type: csv, path: inbox/b.csv } }",
    )
    for name in ("a.csv", "b.csv"):
        (bench.inbox / name).write_text("id,name\n1,Ann\n")
    bench.ingest()
    for table in ("hr__people", "crm__people"):
        assert bench.query(f"select id, name from raw.{table}") == [("1", "Ann")]
    assert bench.query("select source, records_loaded from raw.loads order by 1") == [
        ("crm__people", 1),
        ("hr__people", 1),
    ]


def test_pages_that_hold_the_same_records_are_loaded_once(tmp_path: Path, server: HTTPServer) -> None:
    bench = Bench(
        tmp_path,
        "sources: { shop__items: { type: api, url: '${BASE}/items', params: { shop: '{value}' }, "
        "partitions: { by: values, values: [a, b] }, pagination: { type: cursor, page_param: at, next_path: next }, "
        "records_path: data } }",
    )

    def answer(request: Request) -> Response:
        at = int(request.args.get("at", "0"))
        records = [{"page": at}, {"shop": request.args["shop"] if at == 2 else "all"}]
        return Response(json.dumps({"data": records, "next": at + 1 if at < 2 else None}))

    server.expect_request("/items").respond_with_handler(answer)
    counts = bench.ingest({"BASE": server.url_for("").rstrip("/")}).sources["shop__items"].counts
    assert (counts["read"], counts["loaded"], counts["skipped"]) == (12, 8, 4)
    assert bench.query("select count(*) from raw.shop__items") == [(8,)]
    assert any("holds the same as" in told for told in bench.notices())


def people_source(**options: Any) -> str:
    return json.dumps({"sources": {"hr__people": {"type": "csv", "path": "inbox/*.csv", **options}}})


@pytest.mark.parametrize(
    ("text", "before", "after", "rows", "changed"),
    [
        ("1,Ann\n2,Bob\n", {"header": True}, {"columns": ["id", "name"]}, [("1", "Ann"), ("2", "Bob")], "header"),
        ("id;name\n1;A,B\n", {"delimiter": ","}, {}, [("1", "A,B")], "delimiter"),
        ("id,name\n1,'A'\n", {"quote": '"'}, {"quote": "'"}, [("1", "A")], "quote"),
        ("id,name\n1,2\n", {"header": False, "columns": ["id", "name"]}, {}, [("1", "2")], "header"),
        (
            "1,Ann\n",
            {"header": True, "columns": ["id", "name"]},
            {"columns": ["id", "name"]},
            [("1", "Ann")],
            "columns",
        ),
    ],
    ids=["columns", "delimiter", "quote", "header", "a file that showed no table"],
)
def test_settings_that_are_corrected_read_a_file_anew(
    tmp_path: Path, text: str, before: dict[str, Any], after: dict[str, Any], rows: list[Any], changed: str
) -> None:
    bench = Bench(tmp_path, people_source(**before))
    (bench.inbox / "a.csv").write_text(text)
    bench.ingest()
    old = bench.query("select load_id from raw.loads")
    bench.configure(people_source(**after))
    bench.ingest()
    told = [each for each in bench.notices() if "shows another dialect than before" in each]
    assert len(told) == 1
    assert changed in told[0]
    current = "select load_id from raw.loads where start_bytes = 0 order by loaded_at desc limit 1"
    assert bench.query(f"select id, name from raw.hr__people where _load_id = ({current}) order by _line") == rows
    assert bench.query(f"({current})") != old
    assert bench.query("select count(distinct content_hash) from raw.loads") == [(2,)], "no line passes for a repeat"
    assert bench.ingest().sources["hr__people"].counts["read"] == 0
    with (bench.inbox / "a.csv").open("a") as file:
        file.write(text.splitlines(keepends=True)[-1])
    assert bench.ingest().sources["hr__people"].counts["loaded"] == 1


def test_settings_that_change_nothing_read_nothing_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, people_source())
    (bench.inbox / "a.csv").write_text("id,name\n1,Ann\n")
    bench.ingest()
    bench.configure(people_source(columns=["id", "name", "age"], delimiter=","))
    assert bench.ingest().sources["hr__people"].counts["read"] == 0
    assert not any("dialect" in told for told in bench.notices())


def test_a_file_that_is_left_in_peace_is_looked_into_when_its_settings_change(tmp_path: Path) -> None:
    bench = Bench(tmp_path, people_source(delimiter=","))
    path = bench.inbox / "a.csv"
    path.write_text("id;name\n1;Ann\n")
    time.sleep(2.1)  # a file that has just been written has no token
    bench.ingest()
    assert bench.query("select count(token) from raw.loads") == [(1,)]
    bench.configure(people_source())
    assert bench.ingest().sources["hr__people"].counts["loaded"] == 1


def test_a_renamed_file_is_read_anew_when_its_settings_change(tmp_path: Path) -> None:
    bench = Bench(tmp_path, people_source(delimiter=","))
    (bench.inbox / "a.csv").write_text("id;name\n1;Ann\n")
    bench.ingest()
    (bench.inbox / "a.csv").rename(bench.inbox / "b.csv")
    assert bench.ingest().sources["hr__people"].counts["read"] == 0
    (bench.inbox / "b.csv").rename(bench.inbox / "c.csv")
    bench.configure(people_source())
    assert bench.ingest().sources["hr__people"].counts["loaded"] == 1
    assert bench.ingest().sources["hr__people"].counts["read"] == 0
