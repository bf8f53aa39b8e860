"""Pages of HTTP APIs against a real server: every page in its order, or a clear failure, never a short success."""

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from werkzeug import Request, Response

from foundation.errors import SourceError
from tests.api_bench import PAGED, QUICK, ApiBench, json_response, loads_of, records_of
from tests.arrow import letters_of

OFFSET = {"type": "offset", "page_param": "at", "first_page": 0, "size_param": "limit", "size": 2}
CURSOR = {"type": "cursor", "page_param": "at", "next_path": "next"}


def texts(numbers: Sequence[int]) -> list[str]:
    return [f'{{"id": {number}}}' for number in numbers]


def items(numbers: Sequence[int]) -> list[dict[str, int]]:
    return [{"id": number} for number in numbers]


def serve_offsets(api: ApiBench, total: int, *, largest: int = 100, **extra: Any) -> None:
    def answer(request: Request) -> Response:
        start, size = int(request.args["at"]), min(int(request.args["limit"]), largest)
        return json_response({"data": items(range(start, min(start + size, total))), **extra})

    api.serve(answer)


def test_pages_are_read_to_the_end(api: ApiBench) -> None:
    api.serve_pages([items([1, 2]), items([3])])
    parcels = api.read(**PAGED)
    assert records_of(parcels) == texts([1, 2, 3])
    assert [(load.location, load.lines) for load in loads_of(parcels)] == [
        ("${API_BASE_URL}/people?page=1", 1),
        ("${API_BASE_URL}/people?page=2", 2),
    ]


def test_pages_share_one_parcel(api: ApiBench) -> None:
    api.serve_pages([[{"id": number}, "lost"] for number in range(30)])
    (parcel,) = api.read(**PAGED)
    assert len(parcel.loads) == 30
    assert (parcel.count("read"), parcel.count("loaded"), parcel.count("dead_lettered")) == (60, 30, 30)


def test_pages_are_as_large_as_declared_or_else_as_a_batch(api: ApiBench) -> None:
    api.serve_pages([items([1])])
    for size, wanted in ({"size": 7}, "7"), ({}, "50"):
        api.read(records_path="data", pagination={"type": "page", "size_param": "per_page", **size})
        assert api.asked("per_page")[-1] == wanted


def test_a_record_keeps_its_text(api: ApiBench) -> None:
    body = '{"x": [0], "data": [ {"a": 1.50, "b":12345678901234567890123} ,\n{"c": "]"} ], "n": 1}'
    api.serve(lambda _: Response(body, content_type="application/json"))
    assert records_of(api.read(records_path="data")) == ['{"a": 1.50, "b":12345678901234567890123}', '{"c": "]"}']


def test_an_item_that_is_no_object_is_a_dead_letter(api: ApiBench) -> None:
    api.serve_pages([[{"id": 1}, "lost", 7]])
    (parcel,) = api.read(**PAGED)
    assert letters_of([parcel], "line, page, stage, reason, record") == [
        (2, 1, "parse", "not_an_object", '"lost"'),
        (3, 1, "parse", "not_an_object", "7"),
    ]
    assert (parcel.count("read"), parcel.count("loaded")) == (3, 1)


def test_pages_are_asked_for_side_by_side_and_come_in_order(api: ApiBench) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def answer(request: Request) -> Response:
        nonlocal now, most
        number = int(request.args["page"])
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05 if number % 2 else 0.01)  # the later overtakes the earlier
        with lock:
            now -= 1
        return json_response({"data": items([number]) if number <= 12 else []})

    api.serve(answer)
    assert records_of(api.read(4, **PAGED)) == texts(range(1, 13))
    assert most == 4


@pytest.mark.parametrize("where", ["body", "header"])
def test_a_count_of_the_api_ends_the_walk_without_a_request_too_many(api: ApiBench, where: str) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args["page"])
        headers = {"X-Total-Count": "7"} if where == "header" else {}
        extra = {"total": 7} if where == "body" else {}
        return json_response({"data": items(range(2 * number, min(2 * number + 2, 9))), **extra}, headers=headers)

    api.serve(answer)
    total = {"total_path": "total"} if where == "body" else {}
    paging = {"type": "page", "size": 2, "size_param": "size", **total}
    assert records_of(api.read(records_path="data", pagination=paging)) == texts(range(2, 9))
    assert sorted(api.asked("page")) == ["1", "2", "3", "4"]


def test_a_count_of_the_page_alone_is_not_taken_for_the_count_of_all(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args["page"])
        data = items(range(2 * number, 2 * number + 2)) if number <= 3 else []
        return json_response({"data": data}, headers={"X-Total-Count": str(len(data))})

    api.serve(answer)
    paging = {"type": "page", "size": 2, "size_param": "size"}
    assert records_of(api.read(records_path="data", pagination=paging)) == texts(range(2, 8))


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(("total", "largest"), [(5, 2), (6, 2), (7, 1), (1, 2), (0, 2)])
def test_offsets_step_by_what_the_server_gives(api: ApiBench, concurrency: int, total: int, largest: int) -> None:
    serve_offsets(api, total, largest=largest)
    assert records_of(api.read(concurrency, records_path="data", pagination=OFFSET)) == texts(range(total))


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("largest", [100, 10])
def test_after_a_first_page_that_is_short_one_more_is_asked_for(api: ApiBench, concurrency: int, largest: int) -> None:
    total = min(28, largest)
    serve_offsets(api, total, largest=largest)
    paging = {**OFFSET, "size": 100}
    assert records_of(api.read(concurrency, records_path="data", pagination=paging)) == texts(range(total))
    assert api.asked("at") == ["0", str(total)]


def test_after_the_last_page_one_more_is_asked_for_where_it_ended(api: ApiBench) -> None:
    serve_offsets(api, 28)
    paging = {**OFFSET, "size": 3}
    assert records_of(api.read(1, records_path="data", pagination=paging)) == texts(range(28))
    assert api.asked("at") == [str(start) for start in range(0, 28, 3)] + ["28"]


def test_pages_beyond_the_end_are_no_more_than_are_asked_for_at_once(api: ApiBench) -> None:
    serve_offsets(api, 28)
    assert records_of(api.read(4, records_path="data", pagination={**OFFSET, "size": 3})) == texts(range(28))
    beyond = [start for start in api.asked("at") if int(start) >= 28]
    assert "28" in beyond
    assert set(beyond) <= {"28", "30", "33", "36"}


def test_no_page_is_asked_for_beyond_one_that_is_known_to_be_empty(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        start = int(request.args["at"])
        time.sleep({2: 0.2, 4: 0.4}.get(start, 0))  # those beyond the end answer before it
        return json_response({"data": items(range(start, min(start + 2, 6)))})

    api.serve(answer)
    assert records_of(api.read(4, records_path="data", pagination=OFFSET)) == texts(range(6))
    assert sorted(api.asked("at")) == ["0", "2", "4", "6", "8"]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_hole_between_full_pages_of_offsets_is_found_out(api: ApiBench, concurrency: int) -> None:
    def answer(request: Request) -> Response:
        start = int(request.args["at"])
        return json_response({"data": [] if start == 4 else items(range(start, min(start + 2, 9)))})

    api.serve(answer)
    with pytest.raises(SourceError, match="page 3 is empty, but the one after it is not"):
        api.read(concurrency, records_path="data", pagination=OFFSET)


def test_a_short_page_in_the_middle_loses_nothing(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        start = int(request.args["at"])
        return json_response({"data": items(range(start, min(start + (1 if start == 4 else 2), 9)))})

    api.serve(answer)
    assert records_of(api.read(records_path="data", pagination=OFFSET)) == texts(range(9))


def test_cursors_are_followed_over_empty_pages(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        start = int(request.args.get("at") or 0)
        data = [] if start == 2 else items(range(start, min(start + 2, 5)))
        return json_response({"data": data, "next": start + 2 if start + 2 < 5 else None})

    api.serve(answer)
    assert records_of(api.read(records_path="data", pagination=CURSOR)) == texts([0, 1, 4])


@pytest.mark.parametrize("paging", [{"type": "next_url", "next_path": "links.next"}, {"type": "link_header"}])
@pytest.mark.parametrize("is_relative", [True, False])
def test_next_addresses_are_followed(api: ApiBench, paging: dict[str, str], is_relative: bool) -> None:
    def answer(request: Request) -> Response:
        is_first = "after" not in request.args
        path = f"{api.root}/people?after=1"
        address = (path if is_relative else api.server.url_for(path)) if is_first else None
        body = {"data": items([1 if is_first else 2]), "links": {"next": address}}
        return json_response(body, headers={"Link": f'<{address}>; rel="next"'} if is_first else {})

    api.serve(answer)
    parcels = api.read(records_path="data", pagination=paging)
    assert records_of(parcels) == texts([1, 2])
    assert [load.location for load in loads_of(parcels)] == [
        "${API_BASE_URL}/people",
        "${API_BASE_URL}/people?after=1",
    ]


def test_a_last_page_that_names_itself_ends_the_walk_when_it_is_empty(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        at = request.args.get("at", "a")
        return json_response({"data": items([1]) if at == "a" else [], "next": "b"})

    api.serve(answer)
    assert records_of(api.read(records_path="data", pagination=CURSOR)) == texts([1])


@pytest.mark.parametrize("count", [1, 4])
def test_a_last_page_given_for_ever_is_found_out(api: ApiBench, count: int) -> None:
    api.serve(lambda request: json_response({"data": items([min(int(request.args["page"]), count)])}))
    with pytest.raises(SourceError, match=f"page {count + 1} repeats page {count} .*needs total_path or next_path"):
        api.read(**PAGED)


def test_pages_that_start_over_are_found_out(api: ApiBench) -> None:
    api.serve(lambda request: json_response({"data": items([int(request.args["page"]) % 3])}))
    with pytest.raises(SourceError, match="page 4 repeats page 1"):
        api.read(**PAGED)


def test_a_cursor_that_loops_is_found_out(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        at = request.args.get("at", "a")
        return json_response({"data": [{"id": at}], "next": {"a": "b", "b": "c", "c": "b"}[at]})

    api.serve(answer)
    with pytest.raises(SourceError, match="leads back"):
        api.read(records_path="data", pagination=CURSOR)


def test_cursors_that_never_end_are_found_out(api: ApiBench) -> None:
    api.serve(lambda request: json_response({"data": [], "next": int(request.args.get("at", 0)) + 1}))
    with pytest.raises(SourceError, match="100 pages in a row are empty"):
        api.read(records_path="data", pagination=CURSOR)


@pytest.mark.parametrize("hole", [1, 3])
def test_an_empty_page_in_the_middle_is_found_out(api: ApiBench, hole: int) -> None:
    api.serve_pages([items([number] if number != hole else []) for number in range(1, 6)])
    with pytest.raises(SourceError, match=f"page {hole} is empty, but the one after it is not"):
        api.read(1, **PAGED)


def test_beyond_the_last_page_a_server_may_refuse(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args["page"])
        if number > 4:
            return json_response({"error": "no such page"}, status=404)
        return json_response({"data": items([number] if number < 4 else [])})

    api.serve(answer)
    assert records_of(api.read(**PAGED)) == texts([1, 2, 3])


@pytest.mark.parametrize(
    ("totals", "words"),
    [
        ([5, 5, 5], "counts 5 records, its pages held 3"),
        ([3, 3, 2], "counted 3 records, then 2"),
    ],
)
def test_fewer_records_than_the_api_counts_are_an_error(api: ApiBench, totals: list[int], words: str) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args["page"])
        data = items([number]) if number <= 3 else []
        return json_response({"data": data, "total": totals[min(number, 3) - 1]})

    api.serve(answer)
    parcels = api.stream(records_path="data", pagination={"type": "page", "total_path": "total"})
    loads = loads_of([next(parcels)])
    with pytest.raises(SourceError, match=words):
        next(parcels)
    # The next run reads all pages again.
    assert loads[-1].resume is None
    assert loads[-1].cursor is None


def test_a_count_that_grows_is_told(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args["page"])
        return json_response({"data": items([number]), "total": 3 if number > 1 else 2})

    api.serve(answer)
    paging = {"type": "page", "total_path": "total"}
    assert records_of(api.read(records_path="data", pagination=paging)) == texts([1, 2, 3])
    assert api.notices == ["the API counted 2 records, then 3, while it was read"]


def test_a_total_path_that_leads_nowhere_is_told(api: ApiBench) -> None:
    api.serve_pages([items([1])])
    with pytest.raises(SourceError, match="total_path 'count' leads to no number"):
        api.read(records_path="data", pagination={"type": "page", "total_path": "count"})


@pytest.mark.parametrize("body", [{"data": [], "error": "quota"}, {"error": "quota"}])
@pytest.mark.parametrize("number", [1, 3])
def test_an_error_with_status_200_is_an_error(api: ApiBench, body: dict[str, Any], number: int) -> None:
    def answer(request: Request) -> Response:
        page = int(request.args["page"])
        return json_response({"data": items([page])} if page < number else body)

    api.serve(answer)
    with pytest.raises(SourceError, match="quota"):
        api.read(**PAGED)


def test_a_next_page_that_nobody_asks_for_is_told(api: ApiBench) -> None:
    api.serve(lambda _: json_response(items([1]), headers={"Link": '</people?page=2>; rel="next"'}))
    api.read()
    assert api.notices == ["the answer names a next page, which is not read: pagination.type is none"]


def test_fewer_records_than_counted_are_an_error_without_pagination_too(api: ApiBench) -> None:
    api.serve(lambda _: json_response(items([1]), headers={"X-Total-Count": "3"}))
    with pytest.raises(SourceError, match="counts 3 records, its pages held 1"):
        api.read()


@pytest.mark.parametrize("address", ["http://192.0.2.1/people", "https://127.0.0.1/people", "http://[::bad"])
def test_a_next_page_on_another_host_is_not_asked(api: ApiBench, address: str) -> None:
    api.serve(lambda _: json_response({"data": items([1]), "next": address}))
    with pytest.raises(SourceError, match=r"another host|no valid address"):
        api.read(records_path="data", pagination={"type": "next_url", "next_path": "next"})


def test_redirects_are_followed_on_the_same_host_alone(api: ApiBench) -> None:
    api.serve(lambda _: Response(status=302, headers={"Location": f"{api.root}/moved"}))
    api.serve(lambda request: json_response([{"key": request.headers["X-API-Key"]}]), "/moved")
    auth = {"type": "api_key", "key": "${API_KEY}"}
    (parcel,) = api.read(auth=auth)
    assert records_of([parcel]) == [json.dumps({"key": "s3cret"})]
    assert parcel.loads[0].location == "${API_BASE_URL}/people"
    api.server.clear()
    api.serve(lambda _: Response(status=302, headers={"Location": "http://127.0.0.1:9/people"}))
    with pytest.raises(SourceError, match=r"redirect to another host, http://127\.0\.0\.1:9 "):
        api.read(auth=auth)
    api.server.clear()
    api.serve(lambda _: Response(status=302, headers={"Location": f"{api.root}/people"}))
    with pytest.raises(SourceError, match="more than 5 redirects"):
        api.read(auth=auth)


def test_an_api_that_is_not_there_is_a_clear_error(api: ApiBench) -> None:
    with pytest.raises(SourceError, match=r"cannot reach the API.*\(3 attempts\)"):
        api.read(url="http://127.0.0.1:9/people")


@pytest.mark.parametrize(
    ("url", "variables", "words"),
    [
        ("${BASE}/people?k=1", {"BASE": "http://127.0.0.1:9"}, "cannot reach the API at 127.0.0.1:9: "),
        ("http://me:pass@127.0.0.1:9/people", {}, "cannot reach the API at 127.0.0.1:9: "),
        ("https://no-such-host.invalid/people", {}, "cannot reach the API at no-such-host.invalid:443: "),
    ],
)
def test_the_host_that_was_asked_is_told(api: ApiBench, url: str, variables: dict[str, str], words: str) -> None:
    api.variables |= variables
    with pytest.raises(SourceError) as caught:
        api.read(url=url, retry={**QUICK, "attempts": 1})
    assert words in caught.value.what
    assert "pass" not in caught.value.one_line()
    assert "k=1" not in caught.value.what


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X-Tenant": "of ${TENANT}"}},
        {"auth": {"type": "bearer", "token": "v1-${TENANT}"}},
        {"auth": {"type": "basic", "user": "${TENANT}", "password": "x"}},
        {"auth": {"type": "api_key", "key": "acme", "param": "key"}},
        {"url": "http://u:${TENANT}@${TENANT}.invalid/people"},
    ],
)
def test_a_host_with_a_secret_in_it_is_not_told(api: ApiBench, options: dict[str, Any]) -> None:
    api.variables |= {"TENANT": "Acme"}
    with pytest.raises(SourceError) as caught:
        api.read(**{"url": "http://${TENANT}.invalid/people", "retry": {**QUICK, "attempts": 1}, **options})
    assert "cannot reach the API: " in caught.value.what
    assert "acme" not in caught.value.one_line().lower()


@pytest.mark.parametrize(("url", "words"), [("ftp://127.0.0.1/x", "cannot be sent"), ("http://[::1", "not a URL")])
def test_an_address_that_is_none_is_told(api: ApiBench, url: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        api.read(url=url, retry={**QUICK, "attempts": 1})


def test_the_first_page_is_had_alone(api: ApiBench) -> None:
    api.serve_pages([items([1]), items([2])])
    with api.clients() as clients:
        reader = api.reader(clients, PAGED)
        page = reader.first_page()
        assert (page.records.to_pylist(), reader.is_known(page)) == (texts([1]), False)
    assert api.asked("page") == ["1"]
