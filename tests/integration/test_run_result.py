"""The result of a run: what succeeded, failed and was skipped, with reasons; one failure stops no other."""

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.conftest import NO_TARGET, ROOT, Project

SECRET = "hush-token-4711"
SOURCES = """
concurrency: 2
sources:
  lab__datasets:
    type: api
    url: ${BASE}/datasets
    records_path: data
    RETRY
  lab__metadata:
    type: api
    url: ${BASE}/datasets/{id}/meta
    headers: { X-Key: "${LAB_KEY}" }
    for_each: { source: lab__datasets, field: slug }
    RETRY
  shop__products:
    type: api
    url: ${BASE}/products
    params: { category: "{value}" }
    headers: { X-Key: "${LAB_KEY}" }
    partitions: { by: values, values: [toys, books] }
    RETRY
  hr__people: { type: csv, path: in/people.csv }
  hr__gone: { type: csv, path: in/gone.csv }
""".replace("RETRY", "retry: { attempts: 2, first_wait_seconds: 0.01, timeout_seconds: 5 }")
SLUGS = ["air", "rain & snow", "gone", "down"]


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    def answer(request: Request) -> Response:
        path, category = request.path, request.args.get("category", "")
        if path.endswith("/datasets"):
            return Response(json.dumps({"data": [{"slug": slug} for slug in SLUGS]}))
        if "gone" in path:
            return Response("no", status=404)
        if "down" in path or category == "books":
            return Response(f"no: {SECRET}", status=500)
        return Response(json.dumps([{"of": path + category}]))

    with HTTPServer(host="127.0.0.1", threaded=True) as running:
        for path in ("/datasets", "/products"):
            running.expect_request(path).respond_with_handler(answer)
        for slug in SLUGS:
            running.expect_request(f"/datasets/{slug}/meta").respond_with_handler(answer)
        yield running


def ingest(root: Path, server: HTTPServer, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {"BASE": server.url_for("").rstrip("/"), "LAB_KEY": SECRET}
    return Project(ROOT, NO_TARGET).run("--root", str(root), *options, "ingest", **(base | environment))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with sources of which some fail."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "people.csv").write_text("id,name\n1,Ada\n2,Bob\n")
    (tmp_path / "penstock.yml").write_text(SOURCES)
    return tmp_path


def result_of(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / ".penstock" / "last_run.json").read_text())["result"])


def test_the_result_lists_what_succeeded_failed_and_why(root: Path, server: HTTPServer) -> None:
    done = ingest(root, server, LOG_LEVEL="info")
    assert done.returncode == 4, done.stdout + done.stderr
    result = result_of(root)
    good = {(part["source"], part["partition"]): part for part in result["successful"]}
    assert set(good) == {
        ("lab__datasets", None),
        ("lab__metadata", None),
        ("shop__products", "toys"),
        ("hr__people", None),
    }
    people = good["hr__people", None]
    assert (people["read"], people["loaded"], people["attempts"]) == (2, 2, 1)
    assert datetime.fromisoformat(people["first_attempt_at"]) <= datetime.fromisoformat(people["last_attempt_at"])
    assert result["success_rate_percent"] == round(100 * 4 / 6, 3)

    failed = {(each["source"], each["partition"] or each["id"]): each for each in result["failed"]}
    assert set(failed) == {
        ("shop__products", "books"),
        ("hr__gone", None),
        ("lab__metadata", "gone"),
        ("lab__metadata", "down"),
    }
    books = failed["shop__products", "books"]
    assert (books["stage"], books["error_type"], books["attempts"]) == ("ingest", "AnswerError", 2)
    assert "answered 500" in books["message"]
    assert "Traceback (most recent call last)" in books["traceback"]
    assert books["duration_seconds"] >= 0
    assert books["first_attempt_at"] < books["last_attempt_at"]
    down, gone = failed["lab__metadata", "down"], failed["lab__metadata", "gone"]
    assert (down["stage"], down["error_type"], down["attempts"], down["traceback"]) == ("fetch", "http_500", 2, None)
    assert (gone["error_type"], gone["attempts"]) == ("http_404", 1)
    assert failed["hr__gone", None]["error_type"] == "SourceError"
    (ids,) = result["ids"]
    assert (ids["source"], ids["success_rate_percent"]) == ("lab__metadata", 50)
    assert ids["successful"] == {"count": 2, "ids": ["air", "rain & snow"]}
    assert ids["failed"] == {"count": 2, "ids": ["down", "gone"]}

    (run,) = json.loads(_command(root, "status", "--json").stdout)
    assert run["summary"]["result"] == result


def _command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = Project(ROOT, NO_TARGET).run("--root", str(root), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_tracebacks_are_in_the_log_and_no_secret_is_anywhere(root: Path, server: HTTPServer) -> None:
    done = ingest(root, server, LOG_LEVEL="info")
    assert "Traceback" not in done.stdout + done.stderr
    logged = (root / ".penstock" / "logs" / "errors.log").read_text()
    assert "Traceback (most recent call last)" in logged
    places = [logged, done.stdout, done.stderr, (root / ".penstock" / "last_run.json").read_text()]
    assert not any(SECRET in text for text in places)


def test_what_is_as_it_was_is_skipped_and_what_failed_is_tried_again(root: Path, server: HTTPServer) -> None:
    ingest(root, server)
    done = ingest(root, server)
    assert done.returncode == 4
    (ids,) = result_of(root)["ids"]
    assert ids["skipped"] == {"count": 2, "ids": ["air", "rain & snow"]}
    assert ids["failed"]["ids"] == ["down", "gone"]
    assert ids["successful"] == {"count": 0, "ids": []}


def test_a_source_that_is_fail_fast_leaves_the_others_skipped(root: Path, server: HTTPServer) -> None:
    file = root / "penstock.yml"
    text = file.read_text().replace("concurrency: 2", "concurrency: 1")
    file.write_text(text.replace("path: in/gone.csv }", "path: in/gone.csv, fail_fast: true, priority: 9 }"))
    done = ingest(root, server)
    assert done.returncode == 4
    result = result_of(root)
    assert result["successful"] == []
    assert [each["source"] for each in result["failed"]] == ["hr__gone"]
    reasons = {(part["source"], part["partition"]): part["reason"] for part in result["skipped"]}
    assert reasons["hr__people", None] == "a source that is fail_fast failed"
    assert reasons["shop__products", "toys"] == "a source that is fail_fast failed"
    assert result["success_rate_percent"] == 0


def test_a_stage_that_failed_is_in_the_result(fresh_project: Project) -> None:
    done = fresh_project.run("run", DATABASE_URL="postgresql://u:hush@127.0.0.1:9/d")
    assert done.returncode == 7
    (failure,) = fresh_project.summary["result"]["failed"]
    assert (failure["stage"], failure["source"], failure["error_type"]) == ("publish", None, "PublishError")
    assert "127.0.0.1" in failure["message"]
    assert "Traceback" in failure["traceback"]
    assert "hush" not in json.dumps(fresh_project.summary)
    assert "Traceback" not in done.stdout + done.stderr
    assert len(fresh_project.summary["result"]["successful"]) == 4
