"""One request for each id: what goes wrong with one of them is set aside and stops no other."""

import json
from datetime import timedelta
from typing import Any

import pytest
from werkzeug import Request, Response

from foundation.errors import SourceError
from ingestion.parcels import Parcel
from ingestion.state import SourceState
from tests.api_bench import ApiBench, json_response, loads_of, records_of, state_after
from tests.arrow import letters_of

EACH: dict[str, Any] = {"url": "${API_BASE_URL}/people/{id}", "for_each": {"source": "talent__teams", "field": "id"}}


def serve_ids(api: ApiBench, faults: dict[str, Response | Any]) -> None:
    def answer(request: Request) -> Response:
        identifier = request.path.removeprefix(f"{api.root}/people/")
        fault = faults.get(identifier)
        return fault if fault is not None else json_response({"id": identifier})

    from re import compile as pattern

    api.server.expect_request(pattern(f"{api.root}/people/.*")).respond_with_handler(answer)


def test_every_id_is_asked_for_once_and_in_order(api: ApiBench) -> None:
    serve_ids(api, {})
    ids = ["b", "a", "c d/e?", "ü", "b"]
    parcels = api.read(arguments={"ids": ids}, **EACH)
    assert [json.loads(record)["id"] for record in records_of(parcels)] == ["b", "a", "c d/e?", "ü"]
    assert [load.location for load in loads_of(parcels)] == [
        f"${{API_BASE_URL}}/people/{name}" for name in ("b", "a", "c%20d%2Fe%3F", "%C3%BC")
    ]


def test_what_goes_wrong_with_an_id_is_a_dead_letter(api: ApiBench) -> None:
    faults = {
        "gone": Response("no such person", 404),
        "down": Response("", 503),
        "cut": Response('{"id": "cut"', content_type="application/json"),
        "html": Response("<html>login</html>", content_type="text/html"),
        "null": Response("null", content_type="application/json"),
    }
    serve_ids(api, faults)
    parcels = api.read(arguments={"ids": ["1", *faults, "..", "2"]}, **EACH)
    assert records_of(parcels) == ['{"id": "1"}', '{"id": "2"}']
    place = "${API_BASE_URL}/people/"
    assert letters_of(parcels, "page, stage, reason, attempts, record, location") == [
        (2, "fetch", "http_404", 1, '{"id": "gone"}', f"{place}gone"),
        (3, "fetch", "http_503", 3, '{"id": "down"}', f"{place}down"),
        (4, "parse", "invalid_json", 3, '{"id": "cut"}', f"{place}cut"),
        (5, "parse", "invalid_json", 3, '{"id": "html"}', f"{place}html"),
        (6, "parse", "no_record", 1, '{"id": "null"}', f"{place}null"),
        (7, "fetch", "invalid_id", 1, '{"id": ".."}', f"{place}{{id}}"),
    ]
    (parcel,) = parcels
    assert (parcel.count("read"), parcel.count("loaded"), parcel.count("dead_lettered")) == (8, 2, 6)
    messages = [text for (text,) in letters_of(parcels, "message")]
    assert "talent__people: the API answered 503 (3 attempts)" in messages
    assert len(set(letters_of(parcels, "dead_letter_id"))) == 6


def test_an_answer_may_be_a_list(api: ApiBench) -> None:
    serve_ids(api, {"a": json_response([{"n": 1}, {"n": 2}]), "b": json_response([])})
    parcels = api.read(arguments={"ids": ["a", "b", "c"]}, **EACH)
    assert records_of(parcels) == ['{"n": 1}', '{"n": 2}', '{"id": "c"}']


def test_answers_that_are_alike_are_two_records(api: ApiBench) -> None:
    serve_ids(api, {"a": json_response({}), "b": json_response({})})
    parcels = api.read(arguments={"ids": ["a", "b"]}, **EACH)
    assert records_of(parcels) == ["{}", "{}"]
    assert len({load.content_hash for load in loads_of(parcels)}) == 2


def test_an_answer_that_is_what_it_was_is_skipped(api: ApiBench) -> None:
    serve_ids(api, {})
    first = api.read(arguments={"ids": ["a"]}, **EACH)
    second = api.read(arguments={"ids": ["a", "b"], "state": state_after(first)}, **EACH)
    assert records_of(second) == ['{"id": "b"}']


def test_an_id_is_asked_for_again_once_its_answer_is_old_enough_and_at_once_where_it_has_none(api: ApiBench) -> None:
    serve_ids(api, {})
    each = {**EACH, "for_each": {**EACH["for_each"], "refresh_hours": 20}}
    place, now = "${API_BASE_URL}/people/", api.batch.loaded_at
    state = SourceState(
        answered={
            f"{place}fresh": now - timedelta(hours=19, minutes=59),
            f"{place}old": now - timedelta(hours=20),
            f"{place}odd%20%2F": now,
        }
    )
    ids = ["fresh", "old", "odd /", "none"]
    assert records_of(api.read(arguments={"ids": ids, "state": state}, **each)) == ['{"id": "old"}', '{"id": "none"}']
    assert {request.path.rpartition("/")[2] for request in api.requests()} == {"old", "none"}
    assert api.read(arguments={"ids": ["fresh"], "state": state}, **each) == []
    assert len(records_of(api.read(arguments={"ids": ids, "state": state}, **EACH))) == 4


def test_ids_that_fail_again_are_no_sign_that_none_can_be_read_while_others_have_answers(api: ApiBench) -> None:
    serve_ids(api, {"a": Response("", 404)})
    each = {**EACH, "for_each": {**EACH["for_each"], "refresh_hours": 20}}
    state = SourceState(answered={"${API_BASE_URL}/people/b": api.batch.loaded_at})
    assert letters_of(api.read(arguments={"ids": ["a", "b"], "state": state}, **each), "reason") == [("http_404",)]


def test_an_id_that_fails_in_two_runs_is_a_letter_in_each(api: ApiBench) -> None:
    serve_ids(api, {"a": Response("", 404)})
    letters = [letters_of(api.read(arguments={"ids": ["a", "b"]}, **EACH), "dead_letter_id") for _ in range(2)]
    assert letters[0] != letters[1]


def test_no_id_that_can_be_read_is_an_error_besides(api: ApiBench) -> None:
    serve_ids(api, {"a": Response("", 404), "b": Response("", 410)})
    parcels: list[Parcel] = []
    with pytest.raises(SourceError, match=r"no id could be read: the API answered 410"):
        parcels.extend(api.stream(arguments={"ids": ["a", "b"]}, **EACH))
    assert letters_of(parcels, "reason") == [("http_404",), ("http_410",)]
    assert loads_of(parcels)[-1].resume is None


def test_a_server_that_is_not_there_is_not_asked_for_every_id(api: ApiBench) -> None:
    parcels: list[Parcel] = []
    options = {**EACH, "url": "http://127.0.0.1:9/{id}"}
    with pytest.raises(SourceError, match="no id could be read: cannot reach the API"):
        parcels.extend(api.stream(arguments={"ids": [str(number) for number in range(1000)]}, **options))
    assert letters_of(parcels, "reason, attempts") == [("connection", 3)] * 10


def test_ids_after_a_cut_go_on_when_they_are_the_same(api: ApiBench) -> None:
    serve_ids(api, {})
    ids = ["a", "b", "c"]
    stream = api.read(arguments={"ids": ids}, **EACH)
    cut = state_after([Parcel(stream[0].loads[:2], None, (), None)])
    api.server.log.clear()
    assert records_of(api.read(arguments={"ids": ids, "state": cut}, **EACH)) == ['{"id": "c"}']
    assert len(api.requests()) == 1
    other = api.read(arguments={"ids": ["c", "a", "b"], "state": cut}, **EACH)
    assert [load.records_read for load in loads_of(other)] == [1, 1, 1]


def test_no_ids_are_no_parcel(api: ApiBench) -> None:
    assert api.read(arguments={"ids": []}, **EACH) == []
