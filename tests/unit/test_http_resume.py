"""What a reader of an HTTP API knows of earlier runs: pages, cursors and walks that were cut off."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from werkzeug import Request, Response

from foundation.errors import ConfigError, SourceError
from ingestion.parcels import Parcel
from ingestion.readers.apis import pages as http_pages
from ingestion.state import SourceState
from tests.api_bench import PAGED, ApiBench, digests_of, json_response, loads_of, records_of, state_after

PAGINGS: list[dict[str, Any]] = [
    {"type": "page"},
    {"type": "offset", "page_param": "page", "first_page": 0},
    {"type": "cursor", "page_param": "page", "next_path": "next"},
    {"type": "next_url", "next_path": "url"},
    {"type": "link_header"},
]


def serve_any(api: ApiBench, count: int = 6, **first: Any) -> None:
    """Pages of one record, found in every way; `first` gives other answers, by page."""

    def answer(request: Request) -> Response:
        at = int(request.args.get("page", first.get("start", 1)))
        if (fault := first.get("faults", {}).get(at)) is not None:
            return Response(*fault)
        url = f"{api.root}/people?page={at + 1}" if at < count else None
        body = {"data": [{"id": at}] if at <= count else [], "next": at + 1 if at < count else None, "url": url}
        return json_response(body, headers={"Link": f'<{url}>; rel="next"'} if url else {})

    api.server.clear()
    api.serve(answer)


def read_until_cut(api: ApiBench, paging: Mapping[str, Any], at: int) -> list[Parcel]:
    """The parcels of a walk that ends because a page cannot be had."""
    serve_any(api, start=paging.get("first_page", 1), faults={at: ("gone", 503)})
    parcels: list[Parcel] = []
    with pytest.raises(SourceError, match="answered 503"):
        parcels.extend(api.stream(1, records_path="data", pagination=paging))
    # What came before the fault is kept: list.extend takes it before the error.
    return parcels


@pytest.mark.parametrize("paging", PAGINGS, ids=lambda paging: paging["type"])
def test_a_walk_that_was_cut_off_goes_on_where_it_ended(api: ApiBench, paging: dict[str, Any]) -> None:
    first = read_until_cut(api, paging, 4)
    start = paging.get("first_page", 1)
    assert records_of(first) == [f'{{"id": {number}}}' for number in range(start, 4)]
    serve_any(api, start=start)
    second = api.read(1, {"state": state_after(first)}, records_path="data", pagination=paging)
    assert records_of(second) == ['{"id": 4}', '{"id": 5}', '{"id": 6}']
    assert [load.lines for load in loads_of(second)] == [5 - start, 6 - start, 7 - start]
    assert loads_of(second)[-1].resume is None
    # The pages before are not asked for again, and neither is the first.
    assert {request.args.get("page") for request in api.requests()}.isdisjoint({None, "0", "1", "2", "3"})


def test_a_bundle_is_sealed_before_it_grows_too_large(api: ApiBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pages, "BUNDLE_PAGES", 2)
    serve_any(api, 5)
    parcels = api.read(**PAGED)
    assert [len(parcel.loads) for parcel in parcels] == [2, 2, 1]
    resumes = [json.loads(load.resume)["at"] if load.resume else None for load in loads_of(parcels)]
    assert resumes == [2, 3, 4, 5, None]


@pytest.mark.parametrize("fault", [("no such page", 404), ('{"data": [{"id": 3}]}', 200), ('{"error": 1}', 200)])
def test_a_position_that_the_server_refuses_starts_the_walk_anew(api: ApiBench, fault: tuple[str, int]) -> None:
    first = read_until_cut(api, {"type": "page"}, 4)

    def answer(request: Request) -> Response:
        at = int(request.args["page"])
        if at == 4 and len(api.requests()) <= 1:
            return Response(*fault)
        return json_response({"data": [{"id": at}] if at < 6 else []})

    api.server.clear()
    api.serve(answer)
    api.server.log.clear()
    second = api.read(1, {"state": state_after(first)}, **PAGED)
    assert records_of(second) == ['{"id": 4}', '{"id": 5}']  # the pages before are what they were
    assert [load.records_skipped for load in loads_of(second)] == [1, 1, 1, 0, 0]
    assert "cannot go on and starts anew" in api.notices[0]


@pytest.mark.parametrize(
    ("age", "options", "words"),
    [
        (timedelta(hours=25), PAGED, "more than a day ago"),
        (timedelta(0), {**PAGED, "params": {"kind": "x"}}, "has changed since"),
    ],
)
def test_a_position_that_means_nothing_any_more_starts_the_walk_anew(
    api: ApiBench, age: timedelta, options: dict[str, Any], words: str
) -> None:
    state = state_after(read_until_cut(api, {"type": "page"}, 4))
    api.batch = replace(api.batch, loaded_at=api.batch.loaded_at + age)
    serve_any(api, 4)
    api.read(1, {"state": state}, **options)
    assert words in api.notices[0]


def test_a_server_that_is_down_keeps_the_position(api: ApiBench) -> None:
    state = state_after(read_until_cut(api, {"type": "page"}, 4))
    with pytest.raises(SourceError, match="answered 503"):
        api.read(1, {"state": state}, **PAGED)
    assert api.notices == []


def test_a_position_holds_no_secret_and_no_address_of_its_own(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        at = int(request.args.get("page", 1))
        if at == 3:
            return Response("gone", 503)
        url = api.server.url_for(f"{api.root}/people?page={at + 1}&token=s3cret")
        assert request.args["token"] == "s3cret"
        return json_response({"data": [{"id": at}], "next": url})

    api.serve(answer)
    parcels: list[Parcel] = []
    options = {"records_path": "data", "pagination": {"type": "next_url", "next_path": "next"}}
    with pytest.raises(SourceError, match="answered 503") as caught:
        parcels.extend(api.stream(auth={"type": "api_key", "key": "${API_KEY}", "param": "token"}, **options))
    assert "s3cret" not in caught.value.one_line()
    assert json.loads(loads_of(parcels)[-1].resume or "")["url"] == "${API_BASE_URL}/people?page=3"
    assert "s3cret" not in repr(parcels)


def test_a_page_that_is_what_it_was_is_skipped(api: ApiBench) -> None:
    api.serve_pages([[{"id": 1}], [{"id": 2}]])
    first = api.read(**PAGED)
    again = api.read(arguments={"state": state_after(first)}, **PAGED)
    assert records_of(again) == []
    assert [load.records_skipped for load in loads_of(again)] == [1, 1]


def test_fields_are_collected_from_every_record_also_of_known_pages(api: ApiBench) -> None:
    api.serve_pages([[{"id": 1, "team": {"id": "a"}}, {"id": 2}], [{"id": 3, "team": {"id": "\ud800"}}, 7]])
    known = state_after(api.read(**PAGED))
    found: dict[str, list[str]] = {"id": [], "team.id": []}
    api.read(arguments={"state": known, "collect": found}, **PAGED)
    assert found == {"id": ["1", "2", "3"], "team.id": ["a", "\ud800"]}


CURSOR = {**PAGED, "cursor_path": "at", "cursor_param": "since"}


@pytest.mark.parametrize(
    ("values", "newest"),
    [
        (["2026-01-10", "2026-01-09T00:00:00Z"], "2026-01-10"),
        (["2024-01-10", "2024-1-9"], "2024-01-10"),
        (["2026-01-10T01:00:00+02:00", "2026-01-10T00:00:00Z"], "2026-01-10T00:00:00Z"),
        ([9, 10, 8], "10"),
        (["9", "10"], "10"),
        ([12345678901234567890123, 12345678901234567890122], "12345678901234567890123"),
        (["Sat, 10 Jan 2026 00:00:00 GMT", "Fri, 09 Jan 2026 00:00:00 GMT"], "Sat, 10 Jan 2026 00:00:00 GMT"),
        ([None, 3, "unknown"], "3"),
        ([None], None),
    ],
)
def test_the_newest_cursor_is_the_latest_moment_or_largest_number(
    api: ApiBench, values: list[Any], newest: str | None
) -> None:
    api.serve_pages([[{"id": index, "at": value}] for index, value in enumerate(values)])
    assert loads_of(api.read(**CURSOR))[-1].cursor == newest


def test_only_a_walk_that_came_to_its_end_moves_the_cursor(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        at = int(request.args["page"])
        return json_response({"data": [{"at": 10 - at}]}) if at < 3 else Response("gone", 503)

    api.serve(answer)
    parcels: list[Parcel] = []
    with pytest.raises(SourceError):
        parcels.extend(api.stream(1, **CURSOR))
    assert [load.cursor for load in loads_of(parcels)] == [None, None]
    api.server.clear()
    api.serve_pages([[], [], [{"at": 5}]])
    (last,) = loads_of(api.read(1, {"state": state_after(parcels)}, **CURSOR))
    assert last.cursor == "9"  # of a page that the run before has read


def test_a_cursor_path_that_is_in_no_record_is_told(api: ApiBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pages, "BUNDLE_PAGES", 1)
    api.serve_pages([[{"id": 1}], [{"id": 2}]])
    api.read(**CURSOR)
    told = "no record has the field 'at' of cursor_path: every run reads all of them again"
    assert api.notices == [told]
    known = SourceState(cursors={"": "5"})  # of a time when the field was there
    api.read(arguments={"state": known}, **CURSOR)
    assert api.notices == [told, told]


@pytest.mark.parametrize("pages", [[], [[{"id": 1}], [{"id": 2, "at": 7}], [{"id": 3}]]])
def test_a_cursor_path_of_some_records_or_of_none_that_came_is_no_mistake(
    api: ApiBench, monkeypatch: pytest.MonkeyPatch, pages: list[list[dict[str, int]]]
) -> None:
    monkeypatch.setattr(http_pages, "BUNDLE_PAGES", 1)
    api.serve_pages(pages)
    api.read(**CURSOR)
    assert api.notices == []


@pytest.mark.parametrize(
    ("cursor", "lag", "since"),
    [
        ("2026-01-10", 0, "2026-01-10"),
        ("100", 10, "90"),
        ("1.50", 0.25, "1.25"),
        ("2026-01-10T00:00:00Z", 60, "2026-01-09T23:59:00Z"),
        ("2026-01-10 00:00:00.500+02:00", 1, "2026-01-09 23:59:59.500+02:00"),
        ("2026-01-10", 3600, "2026-01-09"),
    ],
)
def test_what_is_newer_than_the_cursor_less_its_lag_is_asked_for(
    api: ApiBench, cursor: str, lag: float, since: str
) -> None:
    api.serve_pages([[{"id": 1}]])
    api.read(arguments={"state": SourceState(cursors={"": cursor})}, **CURSOR, cursor_lag=lag)
    assert set(api.asked("since")) == {since}


def test_a_lag_cannot_be_taken_from_a_word(api: ApiBench) -> None:
    api.serve_pages([[{"at": "tuesday"}]])
    with pytest.raises(ConfigError, match="cursor_lag cannot be taken from 'tuesday'"):
        api.read(**CURSOR, cursor_lag=5)


def test_ties_and_late_records_are_loaded_once(api: ApiBench) -> None:
    records: list[dict[str, Any]] = [{"id": 1, "at": 100}, {"id": 2, "at": 99}]

    def answer(request: Request) -> Response:
        since = int(request.args.get("since", 0))
        data = [record for record in records if record["at"] >= since]
        return json_response({"data": data if request.args["page"] == "1" else []})

    api.serve(answer)
    first = api.read(**CURSOR, cursor_lag=10)
    known = digests_of(records_of(first))
    records += [{"id": 3, "at": 100}, {"id": 4, "at": 95}, {"id": 5, "at": 89}]
    arguments = {"state": state_after(first), "known_records": known}
    second = api.read(arguments=arguments, **CURSOR, cursor_lag=10)
    assert records_of(second) == ['{"id": 3, "at": 100}', '{"id": 4, "at": 95}']
    (load,) = loads_of(second)
    assert (load.records_read, load.records_loaded, load.records_skipped, load.cursor) == (4, 2, 2, "100")


def test_a_first_page_that_is_empty_by_mistake_is_no_place_to_go_on_from(api: ApiBench) -> None:
    serve_any(api, faults={1: ('{"data": []}', 200, {"Content-Type": "application/json"})})
    parcels: list[Parcel] = []
    with pytest.raises(SourceError, match="page 1 is empty, but the one after it is not"):
        parcels.extend(api.stream(1, records_path="data", pagination={"type": "page"}))
    assert parcels == []
