"""How often, how long and how many at once: rate limits and pauses of a host, and the deadline of an answer."""

import email.utils
import re
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpcore

from foundation.sources import RateLimit


class Host:
    """One host for all sources of a run: the threads that wait for it, its rate limits, and until when it is paused.

    A host that makes its threads wait holds up no other host.
    """

    def __init__(self, name: str, concurrency: int) -> None:
        self.pool = ThreadPoolExecutor(concurrency, thread_name_prefix=f"http-{name}")
        self._windows: dict[RateLimit, deque[float]] = {}
        self._paused_until = 0.0
        self._lock = threading.Lock()

    def limit(self, rate: RateLimit) -> None:
        """Keep to this rate from now on, and to those that were named before."""
        with self._lock:
            self._windows.setdefault(rate, deque(maxlen=rate.requests))

    def pause(self, seconds: float) -> None:
        """Let nobody ask for this long."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def wait(self) -> float:
        """Seconds until the next request may go out, as it looks now."""
        with self._lock:
            return self._wait(time.monotonic())

    def take(self) -> bool:
        """Take the place of one request, if there is one right now."""
        with self._lock:
            now = time.monotonic()
            if self._wait(now) > 0:
                return False
            for window in self._windows.values():
                window.append(now)
            return True

    def _wait(self, now: float) -> float:
        full = [window[0] + rate.per_seconds for rate, window in self._windows.items() if len(window) == rate.requests]
        return max([self._paused_until, *full]) - now


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a Retry-After header in either of its forms (RFC 9110, section 10.2.3)."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)) / timedelta(seconds=1))
    except (ValueError, TypeError, OverflowError):
        return None


class Deadlines(httpcore.SyncBackend):
    """The network with a deadline for each thread: httpx alone counts every read anew, so a drip would never end."""

    def __init__(self) -> None:
        self._thread = threading.local()
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()
        self._is_aborted = False
        self._lock = threading.Lock()

    def start(self, seconds: float) -> None:
        """From now on everything that this thread does in the network ends after so many seconds."""
        self._thread.deadline = time.monotonic() + seconds

    def left(self, timeout: float | None) -> float:
        """What is left of this thread's time, at most `timeout`."""
        left = max(getattr(self._thread, "deadline", time.monotonic() + 60) - time.monotonic(), 0.001)
        return left if timeout is None else min(left, timeout)

    def abort(self) -> None:
        """End what other threads wait for, now and from now on."""
        with self._lock:
            self._is_aborted = True
            streams = list(self._streams)
        for stream in streams:
            stream.abort()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection whose every wait has the deadline."""
        return self.watched(super().connect_tcp(host, port, self.left(timeout), local_address, socket_options))

    def watched(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        """The stream with the deadline on it."""
        watched = _Stream(stream, self)
        with self._lock:
            self._streams.add(watched)
            is_late = self._is_aborted
        if is_late:
            watched.abort()
        return watched


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadlines: Deadlines) -> None:
        self._stream = stream
        self._deadlines = deadlines

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadlines.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadlines.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadlines.left(timeout))
        return self._deadlines.watched(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def abort(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
