"""The pages of an API in their order, several asked for at once where their addresses are known beforehand.

A walk either comes to its end with every page or says what is wrong: pages that repeat, that lead in a circle, that
are empty in the middle, or that hold fewer records than the API counts.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from foundation.errors import SourceError
from foundation.sources import Pagination
from ingestion.readers.apis.answer import HEAD_SHOWN, value_at
from ingestion.readers.apis.client import Answer, AnswerError, ApiClient

NUMBERED = ("page", "offset")
# Pages that have come and wait to be taken: while a bundle of them is sealed, others are asked for.
MOST_WAITING, MOST_WAITING_BYTES = 32, 32 * 1024 * 1024
# A cursor may lead over pages that a filter left empty, but not for ever.
MOST_EMPTY_PAGES = 100


class UnsoundWalk(SourceError):  # noqa: N818 - named after its cause, like the others
    """Pages that do not add up to the whole, so that the next run reads them all again."""


@dataclass(frozen=True)
class Position:
    """Where a page begins: its number in the walk, and a page number, an offset, a cursor or an address."""

    number: int = 1
    at: int | str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Page:
    """One answer: its number in the walk, its records as JSON texts, and where the next page would begin."""

    number: int
    location: str
    records: pa.Array
    content_hash: str
    size_bytes: int
    following: Position | None = None

    @property
    def count(self) -> int:
        """How many records it holds."""
        return len(self.records)


class _End:
    """The number of the first page behind which those that were planned are not asked for any more."""

    def __init__(self) -> None:
        self.number = float("inf")

    @property
    def is_known(self) -> bool:
        return self.number < float("inf")

    def note(self, number: int) -> None:
        self.number = min(self.number, number)


# The pages that are asked for, in their order; None comes for one that need not be asked for any more.
_Ahead = deque[tuple[Position, Future[Answer | None]]]


class Walk:
    """One walk over the pages of a source.

    `since` is the value of cursor_param; `counted` are the records of the pages before the first, `previous` is the
    content hash of the page before it.
    """

    def __init__(
        self,
        client: ApiClient,
        page_size: int,
        ahead: int,
        notice: Callable[[str], None],
        *,
        since: str | None = None,
        counted: int = 0,
        previous: str | None = None,
    ) -> None:
        self.client = client
        self.paging: Pagination = client.source.pagination
        self.page_size = page_size
        self.ahead = ahead
        self.notice = notice
        self.since = since
        self.counted = counted
        # By what the API counted: when it first did so, and when the last page that says so was asked for.
        self._totals: dict[int, tuple[float, float]] = {}
        self._numbers: dict[str, int] = {}
        if previous is not None:
            self._numbers[previous] = 0

    def first(self) -> Position:
        """Where the walk begins."""
        return Position(at=self.paging.first_page if self.paging.type in NUMBERED else None)

    def pages(self, start: Position) -> Iterator[Page]:
        """The pages from `start` on. Raises UnsoundWalk, or SourceError when a page cannot be had."""
        yield from self._numbered(start) if self.paging.type in NUMBERED else self._chained(start)
        self._check_total()

    # Pages whose addresses are known beforehand

    def _numbered(self, start: Position) -> Iterator[Page]:
        ahead: _Ahead = deque()
        # `most` is how many are asked for at once, `is_short` whether the last page was shorter than it might be.
        following, step, most, is_short, largest = start, 0, 1, False, 1
        end = _End()
        try:
            while True:
                while len(ahead) < most and not self._is_beyond(len(ahead) * step) and not end.is_known:
                    ahead.append((following, self._submit_before(end, following, step)))
                    following = self._after(following, step or self.page_size)
                if not ahead:
                    return
                position, future = ahead.popleft()
                answer = self.client.result(future)
                assert answer is not None, "a page is skipped beyond the end alone"
                page = self._page(position, answer, self._after(position, answer.body.count))
                if not page.count:
                    # Before the page is given out: the next run would go on behind a hole.
                    if not is_short:
                        self._prove_end(position, step, ahead)
                    if position == start:
                        yield page
                    return
                yield page
                if self._is_last(answer):
                    return
                # Until one page has come, nobody knows how many there are and how large they get.
                largest = max(largest, answer.body.size_bytes)
                most = self.ahead + min(MOST_WAITING, MOST_WAITING_BYTES // largest)
                if self.paging.type == "page":
                    step = max(step, page.count)
                    continue
                if page.count != step:
                    # The server gives as much as it likes: go on where this page really ended.
                    _abandon(ahead)
                    assert page.following is not None
                    following, end = page.following, _End()
                if page.count < (step or self.page_size):
                    most = 1  # it may be the last one
                is_short = page.count < (step or (self.page_size if self.paging.size_param else 0))
                step = page.count
        finally:
            _abandon(ahead)

    def _submit_before(self, end: "_End", position: Position, step: int) -> Future[Answer | None]:
        """Ask for a page, unless the walk is known by then to end, or to go on otherwise, before it."""

        def ask(url: str) -> Answer | None:
            if position.number > end.number:
                return None
            try:
                answer = self.client.get(url)
            except SourceError:
                end.note(position.number)
                raise
            is_uneven = self.paging.type == "offset" and answer.body.count != step
            if not answer.body.count or is_uneven or self._is_last(answer):
                end.note(position.number)
            return answer

        return self.client.submit(self._url(position), ask)

    def _is_last(self, answer: Answer) -> bool:
        """Whether the answer says that no page follows it."""
        return self.paging.next_path is not None and _is_none(value_at(answer.body.rest, self.paging.next_path))

    def _prove_end(self, empty: Position, step: int, ahead: "_Ahead") -> None:
        """Look one page past an empty one: when that is not the end but a hole, records would be lost."""
        if self._is_beyond(0):
            return
        beyond = self._after(empty, step or self.page_size)
        try:
            answer = self.client.result(ahead[0][1]) if ahead and ahead[0][0] == beyond else None
            answer = answer or self.client.result(self._submit(beyond))
        except AnswerError as error:
            if error.passes or not error.reason.startswith("http_4"):
                raise
            return  # there is nothing beyond the end
        if answer.body.count:
            raise self.client.error(
                f"page {empty.number} is empty, but the one after it is not",
                self._url(empty),
                "run again; if it stays, ask who runs the API",
            )

    def _after(self, position: Position, records: int) -> Position:
        assert isinstance(position.at, int)
        return Position(position.number + 1, position.at + (1 if self.paging.type == "page" else records))

    def _is_beyond(self, expected: int) -> bool:
        """Whether the API counts no more records than have come and are on their way."""
        return bool(self._totals) and self.counted + expected >= max(self._totals)

    # Pages that each tell where the next one is

    def _chained(self, start: Position) -> Iterator[Page]:
        seen: set[str] = set()
        empty_pages = 0
        position: Position | None = start
        future = self._submit(start)
        while position is not None:
            seen.add(self._url(position))
            answer = self.client.result(future)
            following = self._following(position, answer)
            empty_pages = 0 if answer.body.count else empty_pages + 1
            if following is not None:
                url = self._url(following)
                if empty_pages and url == self._url(position):
                    following = None  # nothing more, and the same cursor again: so some APIs tell the end
                elif url in seen:
                    yield self._page(position, answer, None)
                    what = f"page {following.number} leads back to a page that was read"
                    raise self._unsound(what, url, "check pagination in penstock.yml")
                elif empty_pages > MOST_EMPTY_PAGES:
                    what = f"{MOST_EMPTY_PAGES} pages in a row are empty"
                    raise self._unsound(what, url, "check pagination in penstock.yml")
                else:
                    future = self._submit(following)
            yield self._page(position, answer, following)
            position = following

    def _following(self, position: Position, answer: Answer) -> Position | None:
        paging, number = self.paging, position.number + 1
        if paging.type == "none":
            if answer.next_link:
                self.notice("the answer names a next page, which is not read: pagination.type is none")
            return None
        found = answer.next_link
        if paging.type != "link_header":
            found = value_at(answer.body.rest, paging.next_path or "next")
            if not _is_none(found) and not isinstance(found, str | int | float):
                what = f"next_path {paging.next_path or 'next'!r} leads to no text or number in the answer"
                raise self.client.error(what, self._url(position), "check next_path in penstock.yml")
        if _is_none(found):
            return None
        if paging.type == "cursor":
            return Position(number, at=str(found))
        return Position(number, url=self.client.next_url(self._url(position), str(found)))

    # What both kinds share

    def _url(self, position: Position) -> str:
        if position.url is not None:
            return position.url
        source = self.client.source
        params = dict(source.params)
        if self.paging.size_param:
            params[self.paging.size_param] = str(self.page_size)
        if self.since is not None and source.cursor_param:
            params[source.cursor_param] = self.since
        if position.at is not None:
            params[self.paging.page_param] = str(position.at)
        return self.client.address(self.client.url, params)

    def _submit(self, position: Position) -> Future[Answer]:
        return self.client.submit(self._url(position), self.client.get)

    def _page(self, position: Position, answer: Answer, following: Position | None) -> Page:
        """The page of an answer, once it is neither an error in disguise nor a page that was there before."""
        body, url = answer.body, answer.url
        if not body.is_list:
            path = self.client.source.records_path
            where = f"records_path {path!r}" if path else "the body"
            came = f": {json.dumps(body.rest, ensure_ascii=False)[:HEAD_SHOWN]}"
            raise self.client.error(
                f"{where} is no list of records in the answer{came}", url, "check records_path in penstock.yml"
            )
        if not body.count and isinstance(body.rest, dict):
            for name in ("error", "errors"):
                if body.rest.get(name):
                    raise self.client.error(f"no records, but {name}: {str(body.rest[name])[:HEAD_SHOWN]}", url)
        if body.count:
            earlier = self._numbers.setdefault(body.content_hash, position.number)
            if earlier != position.number:
                which = f"page {earlier}" if earlier else "the page before it"
                raise self._unsound(
                    f"page {position.number} repeats {which}",
                    url,
                    "check pagination in penstock.yml: the API may not know these parameters, or give its last page "
                    "for ever, and then needs total_path or next_path",
                )
        self._note_total(answer)
        self.counted += body.count
        location = self.client.location(url)
        return Page(position.number, location, body.records, body.content_hash, body.size_bytes, following)

    def _note_total(self, answer: Answer) -> None:
        path = self.paging.total_path
        if path == "" or (path is None and answer.total_header is None):
            return
        told = answer.total_header if path is None else value_at(answer.body.rest, path)
        try:
            total = int(told)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            if path is None:
                return
            raise self.client.error(
                f"total_path {path!r} leads to no number in the answer", answer.url, "check total_path in penstock.yml"
            ) from None
        if path is None and not self._totals and total <= answer.body.count >= self.page_size:
            return  # a full page that counts itself alone proves no end
        first, last = self._totals.get(total, (answer.received, answer.sent))
        self._totals[total] = (min(first, answer.received), max(last, answer.sent))

    def _check_total(self) -> None:
        if not self._totals:
            return
        fix = "the next run reads it all again; if it stays, leave the count out with total_path: ''"
        url, most = self.client.url, max(self._totals)
        known_since = float("inf")
        for total in sorted(self._totals, reverse=True):
            told, asked = self._totals[total]
            if asked > known_since:  # pages under way at the same time prove nothing
                what = f"the API counted {most:,} records, then {total:,}: one may have slipped to a page that was read"
                raise self._unsound(what, url, fix)
            known_since = min(known_since, told)
        if self.counted < most:
            raise self._unsound(f"the API counts {most:,} records, its pages held {self.counted:,}", url, fix)
        if len(self._totals) > 1:
            self.notice(f"the API counted {min(self._totals):,} records, then {most:,}, while it was read")

    def _unsound(self, what: str, url: str, fix: str) -> UnsoundWalk:
        error = self.client.error(what, url, fix)
        return UnsoundWalk(error.what, where=error.where, fix=error.fix)


def _is_none(value: Any) -> bool:
    return value is None or value is False or value in ("", 0)


def _abandon(ahead: _Ahead) -> None:
    for _, future in ahead:
        future.cancel()
    ahead.clear()
