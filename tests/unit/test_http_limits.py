"""How often a host is asked, how long it is waited for, and what is tried again."""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpcore
import httpx
import pytest
import stamina
from werkzeug import Request, Response

from foundation.errors import SourceError
from foundation.sources import RateLimit
from ingestion.readers.apis.limits import Deadlines, Host, retry_after
from tests.api_bench import PAGED, QUICK, ApiBench, json_response, records_of


def test_sources_on_one_host_share_the_strictest_limit(api: ApiBench) -> None:
    times: list[float] = []

    def answer(request: Request) -> Response:
        times.append(time.monotonic())
        number = int(request.args["page"])
        return json_response({"data": [{"id": number}] if number <= 4 else []})

    for path in ("/a", "/b"):
        api.serve(answer, path)
    sources = [
        {"url": "${API_BASE_URL}/a", "rate_limit": {"requests": 2, "per_seconds": 0.4}, **PAGED},
        {"url": "${API_BASE_URL}/b", "rate_limit": {"requests": 100, "per_seconds": 0.1}, **PAGED},
    ]
    with api.clients(4, sources=[api.source(**source) for source in sources]) as clients, ThreadPoolExecutor() as pool:
        list(pool.map(lambda source: list(api.reader(clients, source).parcels()), sources))
    for first, third in zip(times, times[2:], strict=False):
        assert third - first > 0.25  # a request may arrive late on a busy machine


def test_a_limit_holds_in_every_window() -> None:
    host = Host("x", 1)
    host.limit(RateLimit(requests=3, per_seconds=10))
    assert [host.take() for _ in range(4)] == [True, True, True, False]
    assert 9 < host.wait() <= 10
    host.limit(RateLimit(requests=1, per_seconds=60))
    assert host.wait() <= 10  # what was asked before the stricter limit was known counts with the other alone


def test_no_more_requests_than_allowed_are_under_way_over_all_hosts(api: ApiBench) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def answer(request: Request) -> Response:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return json_response({"data": [{"id": request.args["page"]}] if int(request.args["page"]) < 8 else []})

    api.serve(answer)
    urls = [f"http://{host}:{api.server.port}{api.root}/people" for host in ("127.0.0.1", "localhost")]
    with api.clients(3) as clients, ThreadPoolExecutor() as pool:
        readers = [api.reader(clients, {"url": url, **PAGED}) for url in urls]
        for reader, name in zip(readers, "ab", strict=True):
            reader.name = name
        list(pool.map(lambda reader: list(reader.parcels()), readers))
    assert most == 3


def test_a_host_that_says_wait_is_left_alone_by_all_threads_and_holds_up_no_other(api: ApiBench) -> None:
    times: dict[str, list[float]] = {"127.0.0.1": [], "localhost": []}

    def answer(request: Request) -> Response:
        host = request.host.split(":")[0]
        times[host].append(time.monotonic())
        if host == "127.0.0.1" and len(times[host]) == 3:
            return Response("", 429, headers={"Retry-After": "1"})
        number = int(request.args["page"])
        return json_response({"data": [{"id": number}] if number <= 6 else []})

    api.serve(answer)
    urls = [f"http://{host}:{api.server.port}{api.root}/people" for host in times]
    retry = {**QUICK, "longest_wait_seconds": 2}
    with api.clients(2) as clients, ThreadPoolExecutor() as pool:
        started = time.monotonic()
        paused, free = (
            pool.submit(lambda url: list(api.reader(clients, {"url": url, "retry": retry, **PAGED}).parcels()), url)
            for url in urls
        )
        assert len(records_of(free.result())) == 6
        assert time.monotonic() - started < 0.9
        assert len(records_of(paused.result())) == 6
    after = [moment - times["127.0.0.1"][2] for moment in times["127.0.0.1"][3:]]
    # What was under way comes at once, and nothing between.
    assert [moment for moment in after if 0.2 < moment < 0.95] == []
    assert max(after) > 0.95


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        *[(text, None) for text in (None, "", "soon", "-5", "²", "1e9", "Wed, 99 Oct 2015", "9" * 400, "\x00")],
    ],
)
def test_retry_after_is_read_in_both_forms_and_never_breaks(header: str | None, seconds: float | None) -> None:
    found = retry_after(header)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=60))


def test_retry_after_may_be_a_moment() -> None:
    assert retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1))) == pytest.approx(3600, abs=60)


def waits_of(api: ApiBench, answers: list[Response], **retry: Any) -> list[float]:
    """The waits between the tries of one request."""
    times: list[float] = []
    left = iter(answers)

    def answer(_: Request) -> Response:
        times.append(time.monotonic())
        return next(left, None) or Response("[]")

    api.serve(answer)
    api.read(retry={"attempts": 6, "timeout_seconds": 1, **retry})
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_waits_double_and_a_rate_limit_waits_five_times_longer(api: ApiBench) -> None:
    faults = [Response("", 503), Response("", 500), Response("", 429), Response("", 502)]
    waits = waits_of(api, faults, first_wait_seconds=0.05, longest_wait_seconds=0.6)
    for wait, usual in zip(waits, [0.05, 0.1, 0.6, 0.4], strict=True):
        assert usual * 0.9 <= wait < usual * 1.1 + 0.08


@pytest.mark.parametrize("asked", ["0", "86400", "Wed, 21 Oct 2065 07:28:00 GMT", "nonsense"])
def test_what_the_server_asks_for_is_waited_at_most_as_long_as_declared(api: ApiBench, asked: str) -> None:
    faults = [Response("", 429, headers={"Retry-After": asked}), Response("", 503, headers={"Retry-After": asked})]
    assert max(waits_of(api, faults, first_wait_seconds=0.01, longest_wait_seconds=0.2)) < 0.35


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 501])
def test_a_fault_that_stays_is_not_tried_again(api: ApiBench, status: int) -> None:
    api.serve(lambda _: Response("because", status))
    with pytest.raises(SourceError, match=f"answered {status}: because "):
        api.read()
    assert len(api.requests()) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_fault_that_may_pass_is_tried_as_often_as_declared(api: ApiBench, status: int) -> None:
    api.serve(lambda _: Response("", status))
    with pytest.raises(SourceError, match=rf"answered {status}.*\(4 attempts\)"):
        api.read(retry={**QUICK, "attempts": 4})
    assert len(api.requests()) == 4


def test_one_attempt_is_told_as_one(api: ApiBench) -> None:
    api.serve(lambda _: Response("", 503))
    with pytest.raises(SourceError, match=r"answered 503 \(1 attempt\) .*: check that the API is up"):
        api.read(retry={**QUICK, "attempts": 1})


def test_too_many_requests_to_the_end_name_the_setting_that_helps(api: ApiBench) -> None:
    api.serve(lambda _: Response("", 429))
    with pytest.raises(SourceError, match=r"answered 429.*: set the source's rate_limit to what the API allows"):
        api.read()


def test_the_log_tells_of_every_try_without_secrets(api: ApiBench) -> None:
    api.serve(lambda request: Response(f"no {request.headers['X-API-Key']}", 500))
    told: list[Any] = []
    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([told.append])
    try:
        with pytest.raises(SourceError):
            api.read(auth={"type": "api_key", "key": "${API_KEY}"})
    finally:
        stamina.instrumentation.set_on_retry_hooks(before)
    assert [repr(one.caused_by).rpartition(" in ")[0] for one in told] == [
        "${API_BASE_URL}/people: the API answered 500: no ***; next try"
    ] * 2


def test_the_end_of_the_run_waits_for_no_answer(api: ApiBench) -> None:
    def answer(request: Request) -> Response:
        if int(request.args["page"]) == 2:
            time.sleep(1.5)
        if int(request.args["page"]) == 3:
            return Response("", 503, headers={"Retry-After": "60"})
        return json_response({"data": [{"id": 1}]})

    api.serve(answer)
    options = {**PAGED, "retry": {"timeout_seconds": 60, "longest_wait_seconds": 60}}
    with ThreadPoolExecutor() as pool:
        with api.clients(3) as clients:
            reading = pool.submit(lambda: list(api.reader(clients, options).parcels()))
            time.sleep(0.4)
            started = time.monotonic()
        assert time.monotonic() - started < 0.5
        with pytest.raises(SourceError):
            reading.result(timeout=1)


def slow_body(pieces: int) -> Iterator[bytes]:
    for _ in range(pieces):
        time.sleep(0.1)
        yield b" "


def test_a_body_that_drips_meets_its_deadline(api: ApiBench) -> None:
    api.serve(lambda _: Response(slow_body(30), content_type="application/json"))
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"no whole answer within 0\.3 s"):
        api.read(retry={**QUICK, "timeout_seconds": 0.3, "attempts": 1})
    assert time.monotonic() - started < 0.8


@pytest.mark.parametrize(
    "url",
    ["https://bücher.example/a", "https://user:pw@BÜCHER.example:443/b?c=1", "https://xn--bcher-kva.example?c=1"],
)
def test_a_host_is_the_same_however_its_address_is_spelt(api: ApiBench, url: str) -> None:
    with api.clients() as clients:
        assert clients.host(url) is clients.host(str(httpx.URL("https://bücher.example:443/")))


def test_an_address_that_is_no_url_is_the_failure_of_its_source_alone(api: ApiBench) -> None:
    limited = {"url": "http://127.0.0.1:nine/people", "rate_limit": {"requests": 1}}
    with api.clients(sources=[api.source(**limited)]) as clients, pytest.raises(SourceError, match="not a URL"):
        list(api.reader(clients, limited).parcels())


def test_a_connection_that_is_made_after_the_end_of_the_run_waits_for_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        deadlines = Deadlines()
        deadlines.abort()
        stream = deadlines.connect_tcp("127.0.0.1", server.getsockname()[1])
        deadlines.start(5)
        began = time.monotonic()
        with contextlib.closing(stream), contextlib.suppress(httpcore.NetworkError):
            assert stream.read(1) == b""
        assert time.monotonic() - began < 2
