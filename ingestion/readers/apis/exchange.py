"""One request and its answer over the network: connections, proxies, deadlines, and what the status says."""

import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from ingestion.readers.apis.answer import HEAD_SHOWN, Fault, too_large
from ingestion.readers.apis.limits import Deadlines, retry_after

NO_CONTENT = 204
REDIRECTS = {301, 302, 303, 307, 308}
TRANSIENT = {408, 500, 502, 503, 504}
RATE_LIMITED = 429
# As much of the body of a refusal is read, for what it says.
REFUSAL_BYTES = 2048


@dataclass(frozen=True)
class Response:
    """An answer as it came: its status, its headers by their names in small letters, its body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status says that all is well."""
        return 200 <= self.status < 300

    @property
    def is_redirect(self) -> bool:
        """Whether it names another address to ask."""
        return self.status in REDIRECTS and "location" in self.headers

    @property
    def next_link(self) -> str | None:
        """The address of rel="next" in the Link header, if there is one (RFC 8288)."""
        if "link" not in self.headers:
            return None
        for relation, link in httpx.Response(200, headers={"Link": self.headers["link"]}).links.items():
            if relation and "next" in relation.lower().split():
                return link.get("url")
        return None


class Network:
    """The connections of all threads. Each has its own: over HTTP/2 the streams of threads that share one get mixed up.

    httpcore is what httpx stands on; it alone takes the deadlines, and half the time.
    """

    def __init__(self) -> None:
        self._deadlines = Deadlines()
        self._threads = threading.local()
        self._pools: list[httpcore.ConnectionPool] = []
        self._proxies: dict[tuple[str, str], str | None] = {}
        self._trust: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def abort(self) -> None:
        """End what other threads wait for."""
        self._deadlines.abort()

    def close(self) -> None:
        """Close all connections, once no thread uses them."""
        for pool in self._pools:
            pool.close()

    def connections(self, url: httpx.URL, http2: bool) -> httpcore.ConnectionPool:
        """This thread's own connections to where `url` lies, through the proxy that the environment names."""
        origin = (url.scheme, url.host)
        if origin not in self._proxies:
            self._proxies[origin] = None if proxy_bypass(url.host) else getproxies().get(url.scheme)
        proxy = self._proxies[origin]
        known: dict[Any, httpcore.ConnectionPool] = self._threads.__dict__.setdefault("pools", {})
        if (proxy, http2) not in known:
            with self._lock:
                self._trust = self._trust or httpx.create_ssl_context()
                known[proxy, http2] = httpcore.ConnectionPool(
                    self._trust,
                    proxy=_proxy(proxy) if proxy else None,
                    http2=http2,
                    network_backend=self._deadlines,
                )
                self._pools.append(known[proxy, http2])
        return known[proxy, http2]

    def exchange(
        self,
        connections: httpcore.ConnectionPool,
        method: str,
        url: httpx.URL,
        headers: Sequence[tuple[str, str]],
        form: bytes | None,
        *,
        seconds: float,
        largest: int,
        place: str,
    ) -> Response:
        """Send one request and read its whole answer within `seconds`. Raises Fault for anything else.

        `place` is what a fault may show of where the request went, or empty.
        """
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        self._deadlines.start(seconds)
        try:
            with connections.stream(method, target, headers=headers, content=form) as response:
                return _read(response, largest)
        except httpcore.TimeoutException:
            raise Fault("timeout", f"no whole answer within {seconds:g} s", passes=True) from None
        except httpcore.UnsupportedProtocol as error:
            raise Fault("invalid_request", f"the request cannot be sent: {error}", passes=False) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
            raise _unreachable(error, place) from None


def _proxy(address: str) -> httpcore.Proxy:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth=auth)


def _read(response: httpcore.Response, largest: int) -> Response:
    """The whole answer. Raises Fault when it is a refusal, of which only the head is read, or too large."""
    headers: dict[str, str] = {}
    for name, value in response.headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    is_success = 200 <= response.status < 300
    announced = headers.get("content-length", "")
    if is_success and announced.isdecimal() and int(announced) > largest:
        raise too_large(largest)
    content = bytearray()
    for block in response.iter_stream():
        content += block
        if not is_success and len(content) > REFUSAL_BYTES:
            break
        if len(content) > largest:
            raise too_large(largest)
    whole = Response(response.status, headers, bytes(content))
    _check_status(whole)
    return whole


def _check_status(response: Response) -> None:
    status = response.status
    if (response.is_success and status != NO_CONTENT) or response.is_redirect:
        return
    wait = retry_after(response.headers.get("retry-after"))
    if status == RATE_LIMITED:
        raise Fault(f"http_{status}", f"the API answered {status}, too many requests", passes=True, wait=wait)
    head = " ".join(response.content[:HEAD_SHOWN].decode(errors="replace").split())
    said = f": {head}" if head and "content-encoding" not in response.headers else ""
    passes = status in TRANSIENT
    raise Fault(f"http_{status}", f"the API answered {status}{said}", passes=passes, wait=wait if passes else None)


def _unreachable(error: Exception, place: str) -> Fault:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"the certificate of the API is not trusted: {cause.verify_message}"
            return Fault("certificate", what, passes=False, fix="name the authority's file in SSL_CERT_FILE")
        cause = cause.__cause__ or cause.__context__
    there = f" at {place}" if place else ""
    what = f"cannot reach the API{there}" if isinstance(error, httpcore.ConnectError) else "the connection broke"
    return Fault("connection", f"{what}: {error or type(error).__name__}", passes=True)
