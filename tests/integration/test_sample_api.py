"""The bundled API over real HTTP: pages to the end, limits, errors as JSON, nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sample_data.api_server import CATALOGUE, DATA, serve

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A server over the committed sample records."""
    with serve(DATA) as url:
        yield url


@pytest.fixture(scope="module")
def items() -> list[object]:
    """The records that the server serves."""
    return list(json.loads(DATA.read_text(encoding="utf-8")))


def _serve_text(folder: Path, text: str) -> AbstractContextManager[str]:
    file = folder / "items.json"
    file.write_text(text, encoding="utf-8")
    return serve(file)


def test_pages_to_the_end_by_the_url_in_the_body(base_url: str, items: list[object]) -> None:
    seen: list[Any] = []
    url: str | None = f"{base_url}/employees?per_page=70"
    while url:
        body = httpx.get(url).raise_for_status().json()
        assert (body["per_page"], body["total"], body["total_pages"]) == (70, 600, 9)
        seen += body["data"]
        url = body["next"]
    assert seen == items


def test_pages_to_the_end_by_the_link_header(base_url: str, items: list[object]) -> None:
    seen: list[Any] = []
    url = f"{base_url}/employees"
    while url:
        response = httpx.get(url).raise_for_status()
        seen += response.json()["data"]
        url = response.links.get("next", {}).get("url", "")
    assert seen == items


def test_pages_by_number_all_at_once(base_url: str, items: list[object]) -> None:
    with httpx.Client(base_url=base_url) as client, ThreadPoolExecutor(6) as pool:
        bodies = pool.map(lambda page: client.get("/employees", params={"page": page}).json(), range(1, 7))
        assert [item for body in bodies for item in body["data"]] == items


def test_the_last_page_has_no_next_one(base_url: str) -> None:
    response = httpx.get(f"{base_url}/employees?page=2&per_page=300")
    assert (len(response.json()["data"]), response.json()["next"]) == (300, None)
    assert "link" not in response.headers


def test_a_page_past_the_end_is_empty(base_url: str) -> None:
    response = httpx.get(f"{base_url}/employees?page=7")
    assert response.status_code == 200
    assert response.json() == {"data": [], "page": 7, "per_page": 100, "total": 600, "total_pages": 6, "next": None}


def test_items_keep_the_text_that_they_have_in_the_file(tmp_path: Path) -> None:
    texts = ['{"pay": 1.10, "big": 12345678901234567890.0}', '{"name":"Zo\\u00eb, ]"}', '"text, ["', "null", "[ 1 ]"]
    with _serve_text(tmp_path, f"[{' , '.join(texts)}\n]\n") as url:
        body = httpx.get(f"{url}/employees").text
    assert body.startswith('{"data": [' + ", ".join(texts) + '], "page": 1')


def test_per_page_goes_up_to_500(base_url: str) -> None:
    assert len(httpx.get(f"{base_url}/employees?per_page=500").json()["data"]) == 500


@pytest.mark.parametrize(
    "query",
    [
        *("per_page=501", "per_page=0", "per_page=ten", "per_page="),
        *("page=0", "page=-1", "page=1.5", "page=²", "page=" + "9" * 5000),
        *("updated_after=yesterday", "updated_after="),
    ],
)
def test_a_value_out_of_bounds_is_refused_as_json(base_url: str, query: str) -> None:
    response = httpx.get(f"{base_url}/employees?{query}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    error = response.json()["error"]
    assert (error["status"], error["message"].split()[0]) == (400, query.split("=")[0])


@pytest.mark.parametrize("path", ["/", "/employee", "/employees/1", "/../talent.json"])
def test_other_paths_are_not_found_as_json(base_url: str, path: str) -> None:
    response = httpx.get(base_url + path)
    assert (response.status_code, response.json()["error"]["status"]) == (404, 404)


def test_other_methods_are_refused_as_json(base_url: str) -> None:
    response = httpx.delete(f"{base_url}/employees")
    assert (response.status_code, response.json()["error"]["reason"]) == (501, "Not Implemented")


def test_head_tells_the_length_and_sends_no_body(base_url: str) -> None:
    whole, head = (httpx.request(method, f"{base_url}/employees") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


def test_one_connection_serves_many_requests_also_after_an_error(base_url: str) -> None:
    with httpx.Client(base_url=base_url) as client:
        paths = ("/employees", "/nothing", "/employees?page=0", "/employees")
        statuses = [client.get(path).status_code for path in paths]
    assert statuses == [200, 404, 400, 200]


def test_updated_after_compares_instants_not_texts(tmp_path: Path) -> None:
    times = ["2025-03-01T23:30:00-07:00", "2025-03-02T01:00:00Z", "2025-03-02T06:30:01Z", "2025-03-02T07:00:00"]
    records = [{"id": place, "updatedAt": time} for place, time in enumerate(times)]
    text = json.dumps([*records, {"id": 4}, {"id": 5, "updatedAt": "soon"}, "moved"])
    with _serve_text(tmp_path, text) as url:
        body = httpx.get(f"{url}/employees", params={"updated_after": "2025-03-02T06:30:00Z", "per_page": 1}).json()
        assert ([item["id"] for item in body["data"]], body["total"], body["total_pages"]) == ([2], 2, 2)
        rest = httpx.get(body["next"]).json()
        assert ([item["id"] for item in rest["data"]], rest["total"], rest["next"]) == ([3], 2, None)


def test_an_empty_array_is_one_empty_page(tmp_path: Path) -> None:
    with _serve_text(tmp_path, " [ ] ") as url:
        body = httpx.get(f"{url}/employees").json()
    assert body == {"data": [], "page": 1, "per_page": 100, "total": 0, "total_pages": 0, "next": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{}", "serves a JSON array"), ("[1,]", "column 3|column 4"), ("[1] 2", "Extra data"), ("", "Expecting value")],
)
def test_a_file_that_is_no_array_is_refused_at_the_start(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason), _serve_text(tmp_path, text):
        pass


def test_nothing_listens_after_the_context() -> None:
    threads = set(threading.enumerate())
    with httpx.Client() as client:
        with serve(DATA) as url:
            client.get(f"{url}/employees").raise_for_status()  # the client keeps this connection alive
        with pytest.raises(httpx.TransportError):
            client.get(f"{url}/employees")
    assert not {thread for thread in set(threading.enumerate()) - threads if thread.name == "sample-api"}


def test_two_servers_run_side_by_side() -> None:
    with serve(DATA) as one, serve(DATA) as two:
        assert one != two
        assert httpx.get(f"{one}/employees").json()["data"] == httpx.get(f"{two}/employees").json()["data"]


def test_it_listens_on_this_machine_only(base_url: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", base_url)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_command_serves_until_it_is_stopped(ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "sample_data.api_server", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with Ctrl-C ignored, and the tests may run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = process.stdout.readline().strip()
            assert httpx.get(url).status_code == 200
            process.send_signal(ending)
            assert process.wait(timeout=10) in (0, -signal.SIGKILL)
            assert process.stderr.read() == ""
        finally:
            process.kill()
    with pytest.raises(httpx.TransportError):
        httpx.get(url)


@pytest.fixture(scope="module")
def registry_url() -> Iterator[str]:
    """A server over the committed catalogue alone."""
    with serve(None, catalogue=CATALOGUE) as url:
        yield url


def test_the_catalogue_is_a_list_of_slugs_and_one_answer_for_each(registry_url: str) -> None:
    lines = CATALOGUE.read_bytes().split(b"\n")[:-1]
    seen: list[Any] = []
    url: str | None = f"{registry_url}/datasets?per_page=50"
    while url:
        body = httpx.get(url).raise_for_status().json()
        assert (body["total"], body["total_pages"]) == (120, 3)
        seen += body["data"]
        url = body["next"]
    records = [json.loads(line) for line in lines]
    assert seen == [{"slug": record["slug"], "Name": record.get("Name")} for record in records]
    with httpx.Client(base_url=registry_url) as client:
        assert [client.get(f"/datasets/{each['slug']}").content for each in seen] == lines


@pytest.mark.parametrize("path", ["/employees", "/datasets/none", "/datasets/a/b", "/datasets%2Fa"])
def test_what_the_catalogue_lacks_is_not_found_as_json(registry_url: str, path: str) -> None:
    response = httpx.get(registry_url + path)
    assert (response.status_code, response.json()["error"]["status"]) == (404, 404)
    assert response.json()["error"]["message"].endswith("see /datasets")


@pytest.mark.parametrize("line", ["[]", '{"name": "no slug"}', '{"slug": 7}', '{"slug"'])
def test_a_catalogue_with_a_line_that_is_no_data_set_is_refused_at_the_start(tmp_path: Path, line: str) -> None:
    file = tmp_path / "datasets.ndjson"
    file.write_text(f'{{"slug": "a"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"line 2 of the catalogue|Expecting|delimiter"), serve(None, catalogue=file):
        pass
