"""HTTP APIs that serve JSON, one page after the other. A record keeps the text it arrived with."""

import email.utils
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
import pyarrow as pa
import stamina

from foundation.errors import SourceError
from foundation.settings import expand
from foundation.sources import ApiSource
from ingestion.parcels import Batch, DeadLetter, Parcel, ParcelDraft

LARGEST_BODY = 256 * 1024 * 1024
TRANSIENT = {408, 500, 502, 503, 504}
RATE_LIMITED = 429
# A rate limit that names no time waits about five times longer than another fault.
RATE_LIMIT_FACTOR = 5


@dataclass(frozen=True)
class Page:
    """One response: its number, its address and its records as JSON text."""

    number: int
    location: str
    records: list[str]

    @property
    def content_hash(self) -> str:
        """SHA-256 of the records, without what surrounds them: a time or an address in the body says nothing new."""
        return hashlib.sha256("\n".join(self.records).encode()).hexdigest()


class _TransientError(Exception):
    """A fault that may pass: `wait` is how many seconds the server asked for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class ApiReader:
    """Reads one API source; `known_pages` maps a page's location to the hash of its records when last loaded."""

    def __init__(
        self,
        name: str,
        source: ApiSource,
        *,
        known: Mapping[str, str],
        max_retries: int,
        batch_size: int,
        known_pages: Mapping[str, str],
        cursor: str | None,
        batch: Batch | None,
    ) -> None:
        self.name = name
        self.source = source
        self.known = known
        self.known_pages = known_pages
        self.cursor = cursor
        self.batch = batch
        self.attempts = source.retry.attempts or max_retries
        self.page_size = source.pagination.size or batch_size
        self.url = expand(source.url, known)

    def parcels(self) -> Iterator[Parcel]:
        """One parcel a page. Raises SourceError when a page cannot be had; the pages before it stand."""
        newest = self.cursor
        held: Parcel | None = None
        with self._client() as client:
            for page in self._pages(client):
                newest = _newest(newest, page.records, self.source.cursor_path)
                if held is not None:
                    yield held
                held = self._parcel(page)
        if held is not None:
            # Only a walk that came to its end may move the cursor: pages need not be sorted by it.
            yield replace(held, loads=[replace(held.loads[0], cursor=newest)])

    def first_page(self) -> Page:
        """The first page alone. Raises SourceError."""
        with self._client() as client:
            return next(self._pages(client))

    def is_known(self, page: Page) -> bool:
        """Whether this page held the same records when it was last loaded."""
        return self.known_pages.get(page.location) == page.content_hash

    def _client(self) -> httpx.Client:
        headers = {key: expand(value.get_secret_value(), self.known) for key, value in self.source.headers.items()}
        # Without `identity` a compressed body that was cut short would pass for a whole one.
        headers.setdefault("Accept-Encoding", "identity")
        return httpx.Client(headers=headers, timeout=self.source.retry.timeout_seconds, follow_redirects=False)

    def _pages(self, client: httpx.Client) -> Iterator[Page]:
        paging = self.source.pagination
        params = dict(self.source.params)
        if paging.size_param:
            params[paging.size_param] = str(self.page_size)
        if self.cursor and self.source.cursor_param:
            params[self.source.cursor_param] = self.cursor
        position = paging.first_page
        if paging.type in ("page", "offset"):
            params[paging.page_param] = str(position)
        url: str = self.url
        seen: set[str] = set()
        previous: list[str] | None = None
        number = 0
        while True:
            number += 1
            request = client.build_request("GET", url, params=params or None)
            if str(request.url) in seen:
                raise self._error(f"page {number} leads back to a page that was read", str(request.url))
            seen.add(str(request.url))
            body, links, text = self._fetch(client, request)
            records = self._records(body, text, str(request.url))
            if not records and number > 1:
                return
            if records and records == previous:
                raise self._error(
                    f"page {number} repeats page {number - 1}",
                    str(request.url),
                    "check pagination in penstock.yml: the API may not know these parameters",
                )
            yield Page(number, self._location(str(request.url)), records)
            previous = records
            if paging.type == "none" or (paging.type in ("page", "offset") and not records):
                return
            if paging.next_path is not None and _at(body, paging.next_path) in (None, "", False):
                return
            if paging.type == "page":
                position += 1
                params[paging.page_param] = str(position)
            elif paging.type == "offset":
                position += len(records)
                params[paging.page_param] = str(position)
            elif paging.type == "cursor":
                if paging.next_path is None:
                    raise self._error("pagination.type cursor needs next_path", self.source.url)
                params[paging.page_param] = str(_at(body, paging.next_path))
            else:
                following = (
                    links.get("next", {}).get("url")
                    if paging.type == "link_header"
                    else _at(body, paging.next_path or "next")
                )
                if not following:
                    return
                url, params = self._same_host(urljoin(str(request.url), str(following))), {}

    def _same_host(self, url: str) -> str:
        """`url`, when it leads to the host that the source names: headers hold secrets that no other host may see."""
        if urlsplit(url)[:2] != urlsplit(self.url)[:2]:
            raise self._error(
                "the next page is on another host", url, "name that host in the source's url if it is right"
            )
        return url

    def _fetch(self, client: httpx.Client, request: httpx.Request) -> tuple[Any, Mapping[Any, Any], str]:
        retry = self.source.retry

        def wait_or_give_up(error: Exception) -> bool | float:
            if isinstance(error, _TransientError):
                return True if error.wait is None else min(error.wait, retry.longest_wait_seconds)
            return False

        try:
            for attempt in stamina.retry_context(
                on=wait_or_give_up,
                attempts=self.attempts,
                timeout=None,
                wait_initial=retry.first_wait_seconds,
                wait_max=retry.longest_wait_seconds,
                wait_jitter=retry.first_wait_seconds * 0.1,
                wait_exp_base=2,
            ):
                with attempt:
                    return self._once(client, request)
        except _TransientError as error:
            raise self._error(
                f"{error} ({self.attempts} attempts)", str(request.url), "check that the API is up, then run again"
            ) from error
        raise AssertionError("unreachable: the retry either returns or raises")

    def _once(self, client: httpx.Client, request: httpx.Request) -> tuple[Any, Mapping[Any, Any], str]:
        url = str(request.url)
        deadline = time.monotonic() + self.source.retry.timeout_seconds
        try:
            response = client.send(request, stream=True)
            try:
                self._check_status(response, url)
                content = bytearray()
                for block in response.iter_raw():
                    content += block
                    # httpx counts each read alone: a body that drips would never time out.
                    if time.monotonic() > deadline:
                        raise _TransientError(f"no whole answer within {self.source.retry.timeout_seconds:g} s")
                    if len(content) > LARGEST_BODY:
                        raise self._error(
                            f"the answer is larger than {LARGEST_BODY >> 20} MB", url, "ask for smaller pages"
                        )
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise _TransientError(f"no answer within {self.source.retry.timeout_seconds:g} s") from error
        except httpx.TransportError as error:
            raise _TransientError(f"cannot reach the API: {error or type(error).__name__}") from error
        except httpx.InvalidURL as error:
            raise self._error(f"not a URL: {error}", url) from error
        try:
            text = content.decode("utf-8-sig")
            return json.loads(text, parse_constant=_refuse), response.links, text
        except (ValueError, RecursionError) as error:
            # A body that was cut off looks like this too, so it is worth another try.
            head = bytes(content[:60]).decode(errors="replace")
            raise _TransientError(f"the answer is not JSON: {head!r}") from error

    def _check_status(self, response: httpx.Response, url: str) -> None:
        status = response.status_code
        if status == RATE_LIMITED:
            asked = _retry_after(response.headers.get("Retry-After"))
            wait = asked if asked is not None else self.source.retry.first_wait_seconds * RATE_LIMIT_FACTOR
            raise _TransientError(f"the API answered {status}, too many requests", wait)
        if status in TRANSIENT:
            raise _TransientError(f"the API answered {status}", _retry_after(response.headers.get("Retry-After")))
        if response.is_redirect:
            raise self._error(f"the API answered {status}, a redirect to {response.headers.get('Location')}", url)
        if not response.is_success:
            fix = "check the source's headers and key" if status in (401, 403) else "check the source's url and params"
            raise self._error(f"the API answered {status}", url, fix)

    def _records(self, body: Any, text: str, url: str) -> list[str]:
        records = _at(body, self.source.records_path) if self.source.records_path else body
        if not isinstance(records, list):
            where = f"records_path {self.source.records_path!r}" if self.source.records_path else "the body"
            raise self._error(f"{where} is no list of records in the answer", url, "check records_path in penstock.yml")
        return _texts(text, self.source.records_path, records)

    def _parcel(self, page: Page) -> Parcel:
        assert self.batch is not None
        draft = ParcelDraft(self.batch, self.name, "api", page.location, page.content_hash)
        size = sum(len(record) for record in page.records)
        if self.is_known(page):
            return draft.seal(columns=[], skipped=len(page.records), size_bytes=size, position_bytes=size, lines=0)
        rows: dict[int, str] = {}
        for item, record in enumerate(page.records, start=1):
            if record.startswith("{"):
                rows[item] = record
            else:
                draft.letters.append(
                    DeadLetter(
                        "not_an_object", "the item is not an object", record.encode(), line=item, page=page.number
                    )
                )
        if rows:
            draft.set_rows(pa.table({"record": list(rows.values())}), np.array(list(rows)))
        return draft.seal(columns=["record"], size_bytes=size, position_bytes=size, lines=0)

    def _location(self, url: str) -> str:
        """The page's address as penstock.yml spells its base: free of secrets, and the same wherever the API runs."""
        return self.source.url + url.removeprefix(self.url) if url.startswith(self.url) else urlsplit(url).path

    def _error(self, what: str, url: str, fix: str = "see the source in penstock.yml") -> SourceError:
        return SourceError(f"{self.name}: {what}", where=self._location(url), fix=fix)


def _at(body: Any, path: str) -> Any:
    """The value at a dotted path, or None where there is none."""
    for part in path.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _texts(text: str, path: str, records: list[Any]) -> list[str]:
    """The text of each record as it stands in the body, so that 1.50 stays 1.50."""
    decoder = json.JSONDecoder()
    start = _list_start(text, path.split(".") if path else [], decoder)
    texts, place = [], start + 1
    for _ in records:
        while text[place] in " \t\r\n,":
            place += 1
        _, end = decoder.raw_decode(text, place)
        texts.append(text[place:end])
        place = end
    return texts


def _list_start(text: str, path: list[str], decoder: json.JSONDecoder) -> int:
    """Where the list at `path` opens. The text is known to be JSON and to have a list there."""
    place = _blank(text, 0)
    for part in path:
        place, found = place + 1, -1
        while text[place := _blank(text, place)] != "}":
            key, end = decoder.raw_decode(text, place)
            value = _blank(text, _blank(text, end) + 1)
            if key == part:
                found = value  # of a key that is there twice the last one counts, as in json.loads
            _, place = decoder.raw_decode(text, value)
            place = _blank(text, place)
            place += text[place] == ","
        place = found
    return place


def _blank(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a Retry-After header in either of its forms (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    moment = email.utils.parsedate_to_datetime(value) if value.strip() else None
    if moment is None:
        return None
    return max(0.0, (moment - datetime.now(UTC)) / timedelta(seconds=1))


def _newest(newest: str | None, records: list[str], path: str | None) -> str | None:
    """The largest cursor among `newest` and the records, compared as numbers or moments where they are such."""
    if path is None:
        return newest
    values = [_at(json.loads(record), path) for record in records if record.startswith("{")]
    found = [str(value) for value in values if value is not None]
    return max([*([newest] if newest else []), *found], key=_order, default=None)


def _order(value: str) -> tuple[int, float, str]:
    try:
        return (1, float(value), value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return (0, 0.0, value)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (1, moment.timestamp(), value)
