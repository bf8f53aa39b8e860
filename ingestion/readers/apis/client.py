"""Requests to HTTP APIs: who sends them, how often, how long they may take and when they are tried again."""

import contextlib
import json
import logging
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import stamina

from foundation.errors import ConfigError, SourceError
from foundation.settings import expand
from foundation.sources import ApiSource
from ingestion.readers.apis.answer import Body, Fault, Stopped, body_text, parse_body
from ingestion.readers.apis.auth import Credentials, Token, credentials_of
from ingestion.readers.apis.exchange import Network, Response
from ingestion.readers.apis.limits import Host

# A rate limit that names no time waits about five times longer than another fault.
RATE_LIMIT_FACTOR = 5
MOST_REDIRECTS = 5

Result = TypeVar("Result")


class AnswerError(SourceError):
    """A request that got no usable answer after all tries. `reason` groups such errors, as in http_404 or timeout."""

    def __init__(self, fault: Fault, what: str, attempts: int, *, where: str, fix: str) -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = fault.reason
        self.stage = fault.stage
        self.passes = fault.passes
        self.attempts = attempts
        self.first_attempt_at: datetime | None = None


@dataclass(frozen=True)
class Answer:
    """A whole answer, taken apart, and when it was asked for; `url` is the address, without secrets."""

    url: str
    body: Body
    next_link: str | None
    total_header: str | None
    sent: float
    received: float


class ApiClients:
    """What the API sources of one run share: hosts with their limits, tokens, connections, the number of requests.

    At most `concurrency` requests are under way at any time. Rate limits of `sources` count from the first request.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        *,
        concurrency: int,
        max_retries: int,
        batch_size: int,
        sources: Iterable[ApiSource] = (),
    ) -> None:
        self.variables = variables
        self.concurrency = concurrency
        self.max_retries = max_retries
        self.batch_size = batch_size
        self.slots = threading.BoundedSemaphore(concurrency)
        self.network = Network()
        self._hosts: dict[str, Host] = {}
        self._credentials: dict[str, Credentials] = {}
        self._open: weakref.WeakSet[ApiClient] = weakref.WeakSet()
        self._lock = threading.Lock()
        # Their lines hold whole addresses and headers, with the secrets in them.
        for name in ("httpx", "httpcore", "hpack", "h2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for source in sources:
            # A name that is not set is the failure of that source alone, once it is read.
            with contextlib.suppress(ConfigError, httpx.InvalidURL):
                if source.rate_limit is not None:
                    self.host(expand(source.url, variables, "url")).limit(source.rate_limit)

    def __enter__(self) -> "ApiClients":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            clients, hosts = list(self._open), list(self._hosts.values())
        for client in clients:
            client.stop()
        self.network.abort()
        for host in hosts:
            host.pool.shutdown(wait=True, cancel_futures=True)
        self.network.close()

    def client(self, name: str, source: ApiSource) -> "ApiClient":
        """A client for one reader of a source. Raises ConfigError where a ${NAME} is not set."""
        with self._lock:
            if name not in self._credentials:
                self._credentials[name] = credentials_of(name, source, self.variables)
            client = ApiClient(self, name, source, self._credentials[name])
            self._open.add(client)
        client.address(client.url, {})
        if source.rate_limit is not None:
            self.host(client.url).limit(source.rate_limit)
        return client

    def host(self, url: str) -> Host:
        """The host of an address, the same for all sources however they spell it. Raises httpx.InvalidURL."""
        name = httpx.URL(url).netloc.decode()
        with self._lock:
            if name not in self._hosts:
                self._hosts[name] = Host(name, self.concurrency)
            return self._hosts[name]


class ApiClient:
    """Sends the requests of one reader. `url` is the source's, its ${NAME}s filled in."""

    def __init__(self, clients: ApiClients, name: str, source: ApiSource, credentials: Credentials) -> None:
        self.name = name
        self.source = source
        self.url = expand(source.url, clients.variables, f"sources.{name}.url")
        self.attempts = source.retry.attempts or clients.max_retries
        self._clients = clients
        self._credentials = credentials
        self._stopped = threading.Event()
        # Unpacked unless the source says otherwise: that a packed body was cut short is harder to tell.
        own = {name.lower() for name in credentials.headers}
        usual = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "penstock"}
        self._headers = [(name, value) for name, value in usual.items() if name.lower() not in own]
        self._headers += credentials.headers.items()
        # How addresses are told: as penstock.yml spells the head of them, up to what differs from request to request.
        self._shown_head = source.url.partition("{id}")[0]
        self._shown_head = re.sub(r"//[^/@]*@", "//", self.hide(self._shown_head))
        self._head = expand(source.url.partition("{id}")[0], clients.variables, f"sources.{name}.url")
        self._public_head = self.public(self._head)

    def stop(self) -> None:
        """Let go of every request that nobody waits for any more."""
        self._stopped.set()

    def submit(self, url: str, ask: Callable[[str], Result]) -> Future[Result]:
        """Call `ask`, which is `get` or calls it, in a thread of the host of `url`. Raises Stopped after the run."""
        try:
            return self._clients.host(url).pool.submit(ask, url)
        except RuntimeError:
            raise self._stop_error() from None

    def result(self, future: Future[Result]) -> Result:
        """What `submit` asked for. Raises as `get` does, and Stopped when the run is over."""
        try:
            return future.result()
        except CancelledError:
            raise self._stop_error() from None

    def get(self, url: str) -> Answer:
        """The whole answer. Raises AnswerError when there is none, SourceError when there is no token to ask with."""
        return self._retried(lambda: self._answer(url), url, lambda: self.location(url), self._fix)

    def address(self, url: str, params: Mapping[str, str]) -> str:
        """`url` with `params`, as it is sent but for the secrets. Raises SourceError when it is no address."""
        if params and not {"?", "#"} & set(url):
            return f"{url}?{urlencode(params)}"
        try:
            return str(httpx.URL(url).copy_merge_params(params) if params else httpx.URL(url))
        except httpx.InvalidURL as error:
            raise self.error(f"not a URL: {error}", url) from error

    def public(self, url: str) -> str:
        """`url` without user, password and the query parameters that carry a secret."""
        if "@" not in url and not self._credentials.may_be_in(url):
            return url
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            return self.hide(url)
        hidden = [
            key for key, value in parts.params.items() if key in self._credentials.params or self.hide(value) != value
        ]
        for key in hidden:
            parts = parts.copy_remove_param(key)
        return str(parts.copy_with(username=None, password=None) if parts.userinfo else parts)

    def location(self, url: str) -> str:
        """An address as penstock.yml spells its head: free of secrets, and the same wherever the API runs."""
        shown = self.public(url)
        for head in (self._public_head, self._head):
            if shown.startswith(head):
                return self._shown_head + shown.removeprefix(head)
        parts = urlsplit(shown)
        return self.hide(parts.path + (f"?{parts.query}" if parts.query else ""))

    def shown(self, url: str) -> str | None:
        """The location of `url`, or None where that is not enough to find the address again."""
        location = self.location(url)
        return None if "***" in location else location

    def from_location(self, location: str) -> str:
        """The address that `location` was made of. Raises SourceError when it lies on another host."""
        if location.startswith(self._shown_head):
            return self._public_head + location.removeprefix(self._shown_head)
        return self.next_url(self.url, location)

    def next_url(self, url: str, target: str) -> str:
        """The address that `target` names on the page `url`, without secrets; it is on the host that the source names.

        Headers hold secrets that no other host may see, so any other raises SourceError.
        """
        try:
            there = httpx.URL(url).join(target)
        except httpx.InvalidURL as error:
            raise self.error(f"the next page has no valid address: {error}", url) from error
        if not _is_same_host(httpx.URL(self.url), there):
            fix = "name that host in the source's url if it is right"
            raise self.error(f"the next page is on another host, {_origin(there)}", url, fix)
        return self.public(str(there))

    def error(self, what: str, url: str, fix: str = "see the source in penstock.yml") -> SourceError:
        """The error about one address."""
        return SourceError(self.hide(f"{self.name}: {what}"), where=self.location(url), fix=fix)

    def hide(self, text: str) -> str:
        """`text` without the secrets of this source."""
        return self._credentials.hide(text)

    def _retried(
        self, ask: Callable[[], Result], url: str, where: Callable[[], str], fix_for: Callable[[Fault], str]
    ) -> Result:
        retry = self.source.retry
        wait, tries = 0.0, 0
        began = datetime.now(UTC)
        try:
            for attempt in stamina.retry_context(
                on=lambda error: 0.0 if isinstance(error, Fault) and error.passes else False,  # slept here, see below
                attempts=self.attempts,
                timeout=None,
                wait_initial=retry.first_wait_seconds,
                wait_max=retry.longest_wait_seconds,
                wait_jitter=0,
                wait_exp_base=2,
            ):
                with attempt:
                    tries = attempt.num
                    self._sleep(wait)
                    try:
                        return ask()
                    except Fault as fault:
                        self._sleep(0)
                        fault.args = (self.hide(str(fault)),)
                        wait = self._wait_after(fault, attempt.next_wait)
                        fault.note = f"{where()}: {fault}; next try in {wait:.1f} s"
                        if fault.is_rate_limit or fault.wait is not None:  # meant for all who ask this host
                            self._clients.host(url).pause(wait)
                            wait = 0.0
                        raise
        except Fault as fault:
            often = f" ({tries} {'attempt' if tries == 1 else 'attempts'})" if fault.passes else ""
            error = AnswerError(fault, f"{self.name}: {fault}{often}", tries, where=where(), fix=fix_for(fault))
            error.first_attempt_at = began
            raise error from None
        raise AssertionError("unreachable: the retry either returns or raises")

    def _wait_after(self, fault: Fault, usual: float) -> float:
        """Seconds to wait before the next try."""
        wait = fault.wait
        if wait is None:
            wait = usual * random.uniform(0.9, 1.1) * (RATE_LIMIT_FACTOR if fault.is_rate_limit else 1)
        return min(wait, self.source.retry.longest_wait_seconds)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds) if seconds > 0 else self._stopped.is_set():
            raise self._stop_error()

    def _stop_error(self) -> Stopped:
        return Stopped(f"{self.name}: stopped before the answer came", where=self.location(self.url))

    def _answer(self, url: str) -> Answer:
        sent, token = time.monotonic(), self._credentials.token
        bearer = token.get(self._ask_token) if token else ""
        try:
            response = self._followed(url, bearer)
        except Fault as fault:
            if token is None or fault.reason != "http_401":
                raise
            # The server may have forgotten a token before its time.
            response = self._followed(url, token.get(self._ask_token, refused=bearer))
        received = time.monotonic()
        kind, encoding = response.headers.get("content-type", ""), response.headers.get("content-encoding", "")
        largest = self.source.largest_response_mb << 20
        text = body_text(response.content, encoding=encoding, content_type=kind, largest=largest)
        body = parse_body(text, self.source.records_path, kind)
        total = response.headers.get("x-total-count")
        return Answer(self.public(url), body, response.next_link, total, sent, received)

    def _followed(self, url: str, bearer: str) -> Response:
        """The answer after redirects, which are followed on the same host alone."""
        headers = self._headers
        if bearer:
            headers = [*headers, ("Authorization", f"Bearer {bearer}")]
        for _ in range(MOST_REDIRECTS):
            sent = httpx.URL(url)
            if self._credentials.params:
                sent = sent.copy_merge_params(self._credentials.params)
            response = self._exchange("GET", sent, headers)
            if not response.is_redirect:
                return response
            what = f"the API answered {response.status}, a redirect to"
            try:
                there = sent.join(response.headers["location"])
            except httpx.InvalidURL as error:
                raise Fault("redirect", f"{what} no valid address: {error}", passes=False) from None
            if not _is_same_host(httpx.URL(self.url), there):
                fix = "name that host in the source's url if it is right"
                raise Fault("redirect", f"{what} another host, {_origin(there)}", passes=False, fix=fix)
            url = self.public(str(there))
        raise Fault("redirect", f"more than {MOST_REDIRECTS} redirects", passes=False)

    def _ask_token(self, token: Token) -> dict[str, Any]:
        """The answer of the token endpoint. Raises SourceError."""
        try:
            address = httpx.URL(token.url)
        except httpx.InvalidURL as error:
            what = self.hide(f"{self.name}: token_url is not a URL: {error}")
            raise SourceError(what, where=self.hide(token.shown_url), fix="mend it in penstock.yml") from error

        def post(form: Mapping[str, str], headers: Mapping[str, str]) -> Any:
            kind = ("Content-Type", "application/x-www-form-urlencoded")
            sent = [("Accept", "application/json"), kind, *headers.items()]
            response = self._exchange("POST", address, sent, urlencode(form).encode())
            try:
                return json.loads(response.content)
            except ValueError as error:
                raise Fault("invalid_json", "the token endpoint's answer is not JSON", passes=True) from error

        def fix(fault: Fault) -> str:
            return (
                "check token_url and that it is up" if fault.passes else "check client_id, client_secret and token_url"
            )

        try:
            return self._retried(lambda: token.ask(post), token.url, lambda: self.hide(token.shown_url), fix)
        except AnswerError as error:  # no fault of the one address that was asked for
            what = error.what.replace("the API answered", "the token endpoint answered")
            what = what.replace("cannot reach the API", "cannot reach the token endpoint")
            raise SourceError(what, where=error.where, fix=error.fix) from None

    def _exchange(
        self, method: str, url: httpx.URL, headers: Sequence[tuple[str, str]], form: bytes | None = None
    ) -> Response:
        host, network = self._clients.host(str(url)), self._clients.network
        connections = network.connections(url, self.source.http2)
        seconds, largest = self.source.retry.timeout_seconds, self.source.largest_response_mb << 20
        while True:
            self._sleep(host.wait())
            with self._clients.slots:
                if host.take():
                    return network.exchange(
                        connections,
                        method,
                        url,
                        headers,
                        form,
                        seconds=seconds,
                        largest=largest,
                        place=self._credentials.shown_host(url),
                    )

    def _fix(self, fault: Fault) -> str:
        if fault.fix:
            return fault.fix
        if fault.reason in ("http_401", "http_403"):
            return "check the source's auth, headers and key"
        if fault.is_rate_limit:
            return "set the source's rate_limit to what the API allows, then run again"
        if fault.stage == "parse":
            return "check the source's url and params, then run again"
        return "check that the API is up, then run again" if fault.passes else "check the source's url and params"


def _is_same_host(here: httpx.URL, there: httpx.URL) -> bool:
    return (here.scheme, here.host, here.port) == (there.scheme, there.host, there.port)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"
