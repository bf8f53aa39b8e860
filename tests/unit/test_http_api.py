"""HTTP APIs into parcels, against a real server: full data or a clear failure, never a short success."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from foundation.errors import ConfigError, SourceError
from foundation.sources import ApiSource
from ingestion.parcels import Batch, Parcel
from ingestion.readers.http_api import ApiReader
from tests.arrow import fetch

QUICK = {"first_wait_seconds": 0.01, "longest_wait_seconds": 0.05, "timeout_seconds": 1}


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    folder = tmp_path / "parcels"
    folder.mkdir()
    return Batch("run-1", datetime(2026, 1, 2, tzinfo=UTC), folder)


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as running:
        yield running


def reader(server: HTTPServer, batch: Batch, **options: Any) -> ApiReader:
    known_pages, cursor = options.pop("known_pages", {}), options.pop("cursor", None)
    source = ApiSource.model_validate({"type": "api", "url": "${API_BASE_URL}/people", "retry": QUICK, **options})
    variables = {"API_BASE_URL": server.url_for("").rstrip("/"), "API_KEY": "s3cret"}
    return ApiReader(
        "talent__people",
        source,
        known=variables,
        max_retries=3,
        batch_size=50,
        known_pages=known_pages,
        cursor=cursor,
        batch=batch,
    )


def records_of(parcels: list[Parcel]) -> list[str]:
    return [
        record
        for parcel in parcels
        if parcel.rows
        for (record,) in fetch(parcel.rows, "select record from found order by _line")
    ]


def serve_pages(server: HTTPServer, pages: list[list[Any]], **extra: Any) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args.get("page", "1"))
        data = pages[number - 1] if number <= len(pages) else []
        return Response(json.dumps({"data": data, **extra}), content_type="application/json")

    server.expect_request("/people").respond_with_handler(answer)


PAGED = {"records_path": "data", "pagination": {"type": "page"}}


def test_pages_are_read_to_the_end(server: HTTPServer, batch: Batch) -> None:
    serve_pages(server, [[{"id": 1}, {"id": 2}], [{"id": 3}]])
    parcels = list(reader(server, batch, **PAGED).parcels())
    assert records_of(parcels) == ['{"id": 1}', '{"id": 2}', '{"id": 3}']
    assert [parcel.loads[0].location for parcel in parcels] == [
        "${API_BASE_URL}/people?page=1",
        "${API_BASE_URL}/people?page=2",
    ]


def test_pages_are_as_large_as_declared_or_else_as_a_batch(server: HTTPServer, batch: Batch) -> None:
    serve_pages(server, [[{"id": 1}]])
    for size, wanted in ({"size": 7}, "7"), ({}, "50"):
        paging = {"type": "page", "size_param": "per_page", **size}
        list(reader(server, batch, records_path="data", pagination=paging).parcels())
        assert server.log[-1][0].args["per_page"] == wanted


def test_a_record_keeps_its_text(server: HTTPServer, batch: Batch) -> None:
    body = '{"x": [0], "data": [ {"a": 1.50, "b":12345678901234567890123} ,\n{"c": "]"} ], "n": 1}'
    server.expect_request("/people").respond_with_data(body, content_type="application/json")
    parcels = list(reader(server, batch, records_path="data").parcels())
    assert records_of(parcels) == ['{"a": 1.50, "b":12345678901234567890123}', '{"c": "]"}']


def test_an_item_that_is_no_object_is_a_dead_letter(server: HTTPServer, batch: Batch) -> None:
    serve_pages(server, [[{"id": 1}, "lost", 7]])
    (parcel,) = reader(server, batch, **PAGED).parcels()
    letters = fetch(parcel.dead_letters, "select line, page, reason, record from found order by line")
    assert letters == [(2, 1, "not_an_object", '"lost"'), (3, 1, "not_an_object", "7")]
    assert (parcel.count("read"), parcel.loads[0].records_loaded) == (3, 1)


def test_a_page_that_is_what_it_was_is_skipped(server: HTTPServer, batch: Batch) -> None:
    serve_pages(server, [[{"id": 1}], [{"id": 2}]])
    first = list(reader(server, batch, **PAGED).parcels())
    known = {parcel.loads[0].location: parcel.loads[0].content_hash for parcel in first}
    again = list(reader(server, batch, known_pages=known, **PAGED).parcels())
    assert records_of(again) == []
    assert [parcel.loads[0].records_skipped for parcel in again] == [1, 1]


def test_the_cursor_moves_to_the_newest_record_and_is_asked_for(server: HTTPServer, batch: Batch) -> None:
    serve_pages(server, [[{"id": 1, "at": "2026-01-10"}, {"id": 2, "at": "2026-01-09T00:00:00Z"}]])
    options = {**PAGED, "cursor_path": "at", "cursor_param": "since"}
    parcels = list(reader(server, batch, **options).parcels())
    assert parcels[-1].loads[0].cursor == "2026-01-10"
    list(reader(server, batch, cursor="2026-01-10", **options).parcels())
    assert server.log[-1][0].args["since"] == "2026-01-10"


@pytest.mark.parametrize("paging", [{"type": "next_url", "next_path": "links.next"}, {"type": "link_header"}])
def test_next_addresses_are_followed(server: HTTPServer, batch: Batch, paging: dict[str, str]) -> None:
    def answer(request: Request) -> Response:
        is_first = "after" not in request.args
        address = server.url_for("/people?after=1") if is_first else None
        body = {"data": [{"id": 1 if is_first else 2}], "links": {"next": address}}
        headers = {"Link": f'<{address}>; rel="next"'} if is_first else {}
        return Response(json.dumps(body), headers=headers, content_type="application/json")

    server.expect_request("/people").respond_with_handler(answer)
    parcels = list(reader(server, batch, records_path="data", pagination=paging).parcels())
    assert records_of(parcels) == ['{"id": 1}', '{"id": 2}']


def test_offsets_and_cursors_are_followed(server: HTTPServer, batch: Batch) -> None:
    def answer(request: Request) -> Response:
        start = int(request.args.get("at") or 0)
        rows = [{"id": number} for number in range(start, min(start + 2, 5))]
        body = {"data": rows, "next": start + 2 if start + 2 < 5 else None}
        return Response(json.dumps(body), content_type="application/json")

    server.expect_request("/people").respond_with_handler(answer)
    wanted = [f'{{"id": {number}}}' for number in range(5)]
    offset = {"type": "offset", "page_param": "at", "first_page": 0}
    cursor = {"type": "cursor", "page_param": "at", "next_path": "next"}
    for paging in (offset, cursor):
        assert records_of(list(reader(server, batch, records_path="data", pagination=paging).parcels())) == wanted


def test_faults_that_pass_are_tried_again(server: HTTPServer, batch: Batch) -> None:
    for status in (503, 429):
        server.expect_ordered_request("/people").respond_with_data("wait", status=status, headers={"Retry-After": "0"})
    server.expect_ordered_request("/people").respond_with_data('[{"id": 1}]')
    assert records_of(list(reader(server, batch).parcels())) == ['{"id": 1}']


@pytest.mark.parametrize(
    ("status", "body", "requests", "words"),
    [
        (500, "broken", 3, "answered 500 (3 attempts)"),
        (404, "gone", 1, "answered 404"),
        (401, "who", 1, "answered 401"),
        (302, "", 1, "a redirect"),
        (200, "<html>login</html>", 3, "not JSON"),
        (200, '[{"id": 1}, {"id"', 3, "not JSON"),
        (200, '[{"id": NaN}]', 3, "not JSON"),
        (200, '{"error": "quota"}', 1, "no list of records"),
    ],
)
def test_faults_that_stay_are_a_clear_error(
    server: HTTPServer, batch: Batch, status: int, body: str, requests: int, words: str
) -> None:
    server.expect_request("/people").respond_with_data(body, status=status, content_type="application/json")
    with pytest.raises(SourceError) as caught:
        list(reader(server, batch).parcels())
    assert words in caught.value.one_line()
    assert "s3cret" not in caught.value.one_line()
    assert len(server.log) == requests


def test_a_body_that_drips_meets_its_deadline(server: HTTPServer, batch: Batch) -> None:
    def drip(request: Request) -> Response:  # noqa: ARG001 - the server's signature
        import time

        def pieces() -> Iterator[bytes]:
            for _ in range(30):
                time.sleep(0.1)
                yield b" "

        return Response(pieces(), content_type="application/json")

    server.expect_request("/people").respond_with_handler(drip)
    with pytest.raises(SourceError, match=r"no whole answer within 0\.3 s"):
        list(reader(server, batch, retry={**QUICK, "timeout_seconds": 0.3, "attempts": 1}).parcels())


def test_a_parameter_that_the_api_ignores_is_found_out(server: HTTPServer, batch: Batch) -> None:
    server.expect_request("/people").respond_with_json({"data": [{"id": 1}]})
    with pytest.raises(SourceError, match="page 2 repeats page 1"):
        list(reader(server, batch, **PAGED).parcels())


def test_a_cursor_that_loops_is_found_out(server: HTTPServer, batch: Batch) -> None:
    def answer(request: Request) -> Response:
        at = request.args.get("at", "a")
        following = {"a": "b", "b": "c", "c": "b"}[at]
        return Response(json.dumps({"data": [{"id": at}], "next": following}), content_type="application/json")

    server.expect_request("/people").respond_with_handler(answer)
    paging = {"type": "cursor", "page_param": "at", "next_path": "next"}
    with pytest.raises(SourceError, match="leads back"):
        list(reader(server, batch, records_path="data", pagination=paging).parcels())


def test_a_next_page_on_another_host_is_not_asked(server: HTTPServer, batch: Batch) -> None:
    server.expect_request("/people").respond_with_json({"data": [{"id": 1}], "next": "http://192.0.2.1/people"})
    paging = {"type": "next_url", "next_path": "next"}
    with pytest.raises(SourceError, match="another host"):
        list(reader(server, batch, records_path="data", pagination=paging).parcels())


def test_headers_carry_the_key_and_a_missing_name_is_told(server: HTTPServer, batch: Batch) -> None:
    server.expect_request("/people", headers={"Authorization": "Bearer s3cret"}).respond_with_data('[{"id": 1}]')
    headers = {"Authorization": "Bearer ${API_KEY}"}
    assert records_of(list(reader(server, batch, headers=headers).parcels())) == ['{"id": 1}']
    with pytest.raises(ConfigError, match="NO_SUCH_NAME is not set"):
        list(reader(server, batch, headers={"X-Key": "${NO_SUCH_NAME}"}).parcels())


def test_an_api_that_is_not_there_is_a_clear_error(batch: Batch) -> None:
    source = ApiSource.model_validate({"type": "api", "url": "http://127.0.0.1:9/people", "retry": QUICK})
    nobody = ApiReader(
        "talent__people", source, known={}, max_retries=2, batch_size=50, known_pages={}, cursor=None, batch=batch
    )
    with pytest.raises(SourceError, match="cannot reach the API"):
        list(nobody.parcels())
