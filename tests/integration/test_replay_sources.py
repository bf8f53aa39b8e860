"""Replays by kind of source, in a project that has sources and no models yet: commands, files and servers are real."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from re import compile as pattern
from typing import Any

import duckdb
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.conftest import NO_TARGET, ROOT, Project

CONFIG = """
sources:
  lab__details:
    type: api
    url: ${BASE}/datasets/{id}
    retry: { attempts: 1, first_wait_seconds: 0.01 }
    for_each: { source: lab__datasets, field: slug }
  lab__datasets:
    type: api
    url: ${BASE}/datasets
  hr__people:
    type: csv
    path: inbox/*.csv
    columns: [id, name]
  crm__people:
    type: json
    path: inbox/*.json
"""


class Desk:
    """A folder with penstock.yml and a server of datasets; `broken` are those that it does not answer for."""

    def __init__(self, root: Path, server: HTTPServer) -> None:
        self.root, self.asked = root, list[str]()
        self.broken: dict[str, Response] = {}
        self.base = server.url_for("").rstrip("/")
        (root / "inbox").mkdir()
        (root / "inbox" / "a.csv").write_text('id,name\n1,Ann\n2,"Bob\n3,Cy,x\n')
        (root / "inbox" / "a.json").write_text('{"id": 1}\n{"id": 2\n')
        (root / "penstock.yml").write_text(CONFIG)
        server.expect_request("/datasets").respond_with_json([{"slug": f"set {number}"} for number in range(5)])
        server.expect_request(pattern("/datasets/.*")).respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        slug = request.path.removeprefix("/datasets/")
        self.asked.append(slug)
        return self.broken.get(slug) or Response(json.dumps({"slug": slug}), content_type="application/json")

    def run(self, *arguments: str, code: int = 0) -> str:
        """What `penstock` prints with these arguments."""
        self.asked.clear()
        done = Project(ROOT, NO_TARGET).run("--root", str(self.root), *arguments, BASE=self.base)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def letters(self, *filters: str) -> list[dict[str, Any]]:
        """Letters, one by one."""
        return list(json.loads(self.run("deadletters", "list", "--ids", "--json", *filters)))

    def letter(self, letter_id: str) -> dict[str, Any]:
        """One of them whole."""
        return dict(json.loads(self.run("deadletters", "show", letter_id, "--json")))

    def correct(self, records: dict[str, str]) -> str:
        """A file that corrects letters by their id; its path."""
        file = self.root / "corrected.ndjson"
        lines = [json.dumps({"letter_id": name, "record": record}) + "\n" for name, record in records.items()]
        file.write_text("".join(lines))
        return str(file)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the warehouse."""
        with duckdb.connect(str(self.root / ".penstock" / "warehouse.duckdb"), read_only=True) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A server of its own."""
    with HTTPServer(host="127.0.0.1", threaded=True) as one:
        yield one


@pytest.fixture
def desk(tmp_path: Path, server: HTTPServer) -> Desk:
    return Desk(tmp_path, server)


def test_only_the_ids_that_were_not_answered_are_asked_for_again(desk: Desk) -> None:
    desk.broken = {"set 1": Response("", 500), "set 3": Response("", 500)}
    assert "lab__details: 2 ids without a usable answer: 2 http_500" in desk.run("ingest", code=4)
    letters = desk.letters("--source", "lab__details")
    assert [(each["stage"], each["reasons"], each["attempts"], each["state"]) for each in letters] == [
        ("fetch", "http_500", 1, "open"),
        ("fetch", "http_500", 1, "open"),
    ]
    desk.broken = {"set 3": Response("", 404)}
    out = desk.run("replay", "--source", "lab__details", code=4)
    assert sorted(desk.asked) == ["set 1", "set 3"]
    assert "2 read, 1 loaded, 1 dead lettered" in out
    found = {
        json.loads(desk.letter(each["letter_id"])["record"])["id"]: desk.letter(each["letter_id"]) for each in letters
    }
    assert (found["set 1"]["state"], found["set 1"]["resolution"]) == ("resolved", "its place was read anew")
    again = found["set 3"]
    assert (again["state"], again["reasons"], again["attempts"]) == ("open", "http_404", 2)
    assert [event["note"].split(":")[0] for event in again["history"]] == ["http_500", "http_404"]
    desk.broken = {}
    desk.run("replay")
    assert desk.asked == ["set 3"]
    assert desk.letters("--source", "lab__details", "--state", "open") == []
    assert desk.query("select count(*), count(distinct record) from raw.lab__details") == [(5, 5)]
    assert "nothing to replay" in desk.run("replay", "--source", "lab__details")
    desk.run("ingest")
    assert desk.query("select count(*) from raw.lab__details") == [(5,)]


def test_a_walk_that_was_cut_off_goes_on_where_it_was_after_a_replay(desk: Desk) -> None:
    desk.broken = {"set 1": Response("", 500)}
    desk.run("ingest", code=4)
    with duckdb.connect(str(desk.root / ".penstock" / "warehouse.duckdb")) as connection:
        connection.execute("update raw.loads set resume = 'there' where source = 'lab__details'")
    desk.broken = {}
    desk.run("replay", "--source", "lab__details")
    loads = desk.query(
        "select resume, cursor from raw.loads where source = 'lab__details' order by loaded_at desc limit 1"
    )
    assert loads == [("there", None)]


def test_corrections_land_beside_the_rows_of_their_file_and_the_file_stays_known(desk: Desk) -> None:
    desk.run("ingest")
    quote, ragged = desk.letters("--source", "hr__people")
    (cut,) = desk.letters("--source", "crm__people")
    assert (quote["line"], ragged["line"], cut["line"]) == (3, 4, 2)
    file = desk.correct(
        {quote["letter_id"]: "2,Bob", ragged["letter_id"]: '{"id": "3"}', cut["letter_id"]: '{"id": 2}'}
    )
    assert "3 read, 3 loaded" in desk.run("replay", file)
    rows = "select _location, _line, id, name from raw.hr__people order by _line"
    assert desk.query(rows) == [
        ("inbox/a.csv", 2, "1", "Ann"),
        ("inbox/a.csv", 3, "2", "Bob"),
        ("inbox/a.csv", 4, "3", None),
    ]
    assert desk.query("select record from raw.crm__people order by _line") == [('{"id": 1}',), ('{"id": 2}',)]
    assert desk.letter(quote["letter_id"])["state"] == "replayed"
    assert [event["event"] for event in desk.letter(quote["letter_id"])["history"]] == ["set aside", "replayed: loaded"]
    # Once more: skipped. The file is read on from where it ended.
    assert "nothing new was read" in desk.run("replay", file)
    with (desk.root / "inbox" / "a.csv").open("a") as grown:
        grown.write("4,Dee\n")
    assert "1 read, 1 loaded" in desk.run("ingest")
    assert len(desk.query(rows)) == 4
    assert desk.query("select count(*) from raw.loads where kind = 'replay' and records_loaded > 0") == [(2,)]


def test_a_replay_that_was_killed_while_it_landed_is_finished_and_lands_nothing_twice(desk: Desk) -> None:
    desk.run("ingest")
    quote, _ = desk.letters("--source", "hr__people")
    file = desk.correct({quote["letter_id"]: "2,Bob"})
    # The package is packed and its load is never begun: what a kill leaves behind.
    code = (
        "import os, sys; import dlt; dlt.Pipeline.load = lambda *_, **__: os._exit(9); "
        f"sys.argv = ['penstock', '--root', {str(desk.root)!r}, 'replay', {file!r}]; "
        "from operations.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"BASE": desk.base}, timeout=120)
    assert done.returncode == 9
    assert desk.letter(quote["letter_id"])["state"] == "open"
    assert "finished what an interrupted run had packed" in desk.run("replay", file)
    assert desk.query("select id, name from raw.hr__people order by id") == [("1", "Ann"), ("2", "Bob")]
    assert desk.letter(quote["letter_id"])["state"] == "replayed"


def test_an_original_that_only_another_setting_can_read_is_replayed_once_that_is_set(desk: Desk) -> None:
    desk.run("ingest")
    quote, _ = desk.letters("--source", "hr__people")
    only = ["replay", "--id", quote["letter_id"]]
    assert "1 read, 1 dead lettered" in desk.run(*only)
    assert desk.letter(quote["letter_id"])["attempts"] == 2
    # Nothing is known that would change it, so it is not tried again.
    assert "nothing new was read" in desk.run(*only)
    (desk.root / "penstock.yml").write_text(CONFIG.replace("[id, name]", "[id, name]\n    quote: ''"))
    assert "1 read, 1 loaded" in desk.run(*only)
    found = desk.letter(quote["letter_id"])
    assert (found["state"], found["attempts"]) == ("replayed", 3)
    assert desk.query("select id, name from raw.hr__people order by id") == [("1", "Ann"), ("2", '"Bob')]


def test_an_original_that_is_a_whole_file_is_told_to_be_mended_there(desk: Desk) -> None:
    (desk.root / "inbox" / "b.csv").write_text("<html><body>not found</body></html>\n")
    desk.run("ingest")
    out = desk.run("replay", "--reason", "unreadable_file")
    assert "1 letter has no original that can be read on its own" in out
    (desk.root / "inbox" / "b.csv").write_text("id,name\n5,Eve\n")
    desk.run("ingest")
    assert [each["state"] for each in desk.letters("--reason", "unreadable_file")] == ["resolved"]


def test_a_letter_of_a_file_that_was_read_anew_is_resolved_and_the_new_one_is_open(desk: Desk) -> None:
    desk.run("ingest")
    (desk.root / "inbox" / "a.csv").write_text("id,name\n1,Ann\n2,Bob\n7,Eve,y\n")
    desk.run("ingest")
    states = {(each["line"], each["reasons"], each["state"]) for each in desk.letters("--source", "hr__people")}
    assert states == {(3, "broken_quote", "resolved"), (4, "ragged_line", "resolved"), (4, "ragged_line", "open")}
