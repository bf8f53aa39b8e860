"""HTTP APIs that serve JSON: the pages of a walk, or one answer for each id, as parcels that are checkpoints too."""

import contextlib
import hashlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from foundation.errors import SourceError
from foundation.failpoints import failpoint
from foundation.sources import ApiSource
from ingestion.parcels import Batch, Parcel
from ingestion.readers.apis.answer import Fault, Stopped
from ingestion.readers.apis.client import Answer, AnswerError, ApiClient, ApiClients
from ingestion.readers.apis.fields import lagged
from ingestion.readers.apis.pages import Ending, Failure, PageBundle, Reading
from ingestion.readers.apis.walk import Page, Position, UnsoundWalk, Walk
from ingestion.state import SourceState

# An older position would lead into data that has moved on.
OLDEST_RESUME = timedelta(days=1)
# What says nothing about the position that was asked for.
LOCKED_OUT = {"http_401", "http_403", "certificate", "invalid_request", "too_large"}
# So many ids at the start that find nobody there stand for all of them.
UNREACHABLE_IDS = 10


class ApiReader:
    """Reads one API source, or one part of it, whose placeholders are filled in.

    `ids` are what a for_each source asks for. `known_records` are the SHA-256 of record texts that were loaded before,
    which are skipped. Into each list of `collect` go the values at its field path, of every record that is read.
    """

    def __init__(
        self,
        name: str,
        source: ApiSource,
        clients: ApiClients,
        batch: Batch | None,
        partition: str = "",
        state: SourceState | None = None,
        known_records: pa.Array | None = None,
        ids: Sequence[str] | None = None,
        collect: Mapping[str, list[str]] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.clients = clients
        self.batch = batch
        self.partition = partition
        self.state = state or SourceState()
        self.known_records = known_records
        self.ids = None if ids is None else list(dict.fromkeys(str(one) for one in ids))
        self.collect = collect or {}
        self.notice = notice or (lambda _: None)
        self.page_size = source.pagination.size or clients.batch_size

    def parcels(self) -> Iterator[Parcel]:
        """Parcels of some pages each. Raises SourceError when a page cannot be had; the pages before it stand."""
        assert self.batch is not None
        with self._client() as client:
            failure: SourceError | None = None
            reading = self._reading(client)
            bundle = PageBundle(reading)
            try:
                for item in self._items(client, reading):
                    if bundle.is_full():
                        yield bundle.seal(Ending.CUT)
                        bundle = PageBundle(reading)
                    bundle.add(item)
                    failpoint("page.fetched")
            except SourceError as error:
                failure = error
            if bundle.items:
                unsound = isinstance(failure, UnsoundWalk)
                yield bundle.seal(Ending.UNSOUND if unsound else Ending.CUT if failure else Ending.WHOLE)
            if reading.has_cursor is False:
                what = f"no record has the field {self.source.cursor_path!r} of cursor_path"
                self.notice(f"{what}: every run reads all of them again")
            failpoint("pages.sealed")
            if failure is not None:
                raise failure

    def first_page(self) -> Page:
        """The first page alone. Raises SourceError."""
        with self._client() as client:
            if self.source.for_each is None:
                walk = self._walk(client, self._since())
                return next(walk.pages(walk.first()))
            if not self.ids:
                raise client.error(f"{self.source.for_each.source} gives no id to ask for yet", client.url)
            return self._answer_page(client, 1, client.get(self._id_url(client, self.ids[0])))

    def is_known(self, page: Page) -> bool:
        """Whether this page held the same records when it was last loaded."""
        known = self.state.prefixes.get(page.location)
        return known is not None and known.content_hash == page.content_hash

    @contextlib.contextmanager
    def _client(self) -> Iterator[ApiClient]:
        client = self.clients.client(self.name, self.source)
        try:
            yield client
        finally:
            client.stop()

    def _reading(self, client: ApiClient) -> Reading:
        assert self.batch is not None
        return Reading(
            self.batch,
            self.name,
            self.partition,
            self.source,
            self.is_known,
            client.shown,
            self._query(),
            self.known_records,
            self.collect,
            newest=self.state.cursors.get(self.partition),
            started_at=self.batch.loaded_at.isoformat(),
        )

    def _items(self, client: ApiClient, reading: Reading) -> Iterator[Page | Failure]:
        resume = self._resume(reading.query)
        if self.source.for_each is not None:
            yield from self._answers(client, resume["number"] if resume else 1)
            return
        pages = None if resume is None else self._resumed_pages(client, reading, resume)
        if pages is None:
            reading.since = self._since()
            walk = self._walk(client, reading.since)
            pages = walk.pages(walk.first())
        yield from pages

    # Walks over pages

    def _walk(self, client: ApiClient, since: str | None, **resumed: Any) -> Walk:
        return Walk(client, self.page_size, self.clients.concurrency, self.notice, since=since, **resumed)

    def _since(self) -> str | None:
        cursor = self.state.cursors.get(self.partition)
        if cursor is None or self.source.cursor_param is None:
            return None
        return lagged(cursor, self.source.cursor_lag)

    def _resume(self, query: str) -> dict[str, Any] | None:
        """Where a walk of an earlier run was cut off, when it makes sense to go on there."""
        text = self.state.resumes.get(self.partition)
        if text is None:
            return None
        assert self.batch is not None
        try:
            resume: dict[str, Any] = json.loads(text)
            age = self.batch.loaded_at - datetime.fromisoformat(resume["read_at"])
            is_same = resume["query"] == query
            int(resume["number"]), int(resume["records"])
        except (ValueError, TypeError, KeyError):
            self.notice("the place where the last walk was cut off cannot be read: it starts anew")
            return None
        if not is_same:
            self.notice("what is asked for has changed since the last walk was cut off: it starts anew")
            return None
        if age > OLDEST_RESUME:
            self.notice("the last walk was cut off more than a day ago: it starts anew")
            return None
        return resume

    def _resumed_pages(self, client: ApiClient, reading: Reading, resume: Mapping[str, Any]) -> Iterator[Page] | None:
        """The pages after those of a walk that was cut off, or None where the server does not go on there."""
        walk = self._walk(client, resume["since"], counted=resume["records"], previous=resume["previous"])
        try:
            url = client.from_location(resume["url"]) if resume["url"] else None
            pages = walk.pages(Position(resume["number"], resume["at"], url))
            first = next(pages)
        except SourceError as error:
            if isinstance(error, Stopped) or (
                isinstance(error, AnswerError) and (error.passes or error.reason in LOCKED_OUT)
            ):
                raise
            self.notice(f"the walk that was cut off cannot go on and starts anew: {error.one_line()}")
            return None
        reading.since, reading.records = resume["since"], resume["records"]
        reading.newest, reading.started_at = resume["newest"], resume["started_at"]
        return itertools.chain([first], pages)

    def _query(self) -> str:
        """What a position belongs to: it means nothing to another address, page size or list of ids."""
        source = self.source
        parts = [source.url, source.params, source.pagination.model_dump(), source.records_path, source.cursor_param]
        text = json.dumps([*parts, source.cursor_path, self.page_size, self.ids])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # One answer for each id

    def _answers(self, client: ApiClient, start: int) -> Iterator[Page | Failure]:
        """The answers for the ids from the number `start` on; what goes wrong with one of them stops no other."""
        numbered = list(enumerate(self.ids or [], start=1))[start - 1 :]
        wanted = [(number, identifier) for number, identifier in numbered if not self._is_fresh(client, identifier)]
        waiting = iter(wanted)
        ahead: deque[tuple[int, str, Future[Answer] | None]] = deque()
        failures: list[Failure] = []
        is_answered = is_unreachable = False
        while True:
            for number, identifier in itertools.islice(waiting, self.clients.concurrency - len(ahead)):
                # Without any other letter it would be no address of its own.
                is_name = identifier.strip(".") != ""
                ahead.append(
                    (
                        number,
                        identifier,
                        client.submit(self._id_url(client, identifier), client.get) if is_name else None,
                    )
                )
            if not ahead:
                break
            item = self._answer(client, *ahead.popleft())
            yield item
            is_answered = is_answered or isinstance(item, Page)
            if isinstance(item, Failure) and not is_answered:
                failures = [*failures[1 - UNREACHABLE_IDS :], item]
                if len(failures) == UNREACHABLE_IDS and {one.reason for one in failures} == {"connection"}:
                    is_unreachable = True
                    break
        # Those that failed before may all fail again, while the others have their answers.
        if failures and not is_answered and (is_unreachable or len(wanted) == len(numbered)):
            what = f"no id could be read: {failures[-1].message.removeprefix(f'{self.name}: ')}"
            error = client.error(what, client.url, "check the url, and that the API is up")
            raise UnsoundWalk(error.what, where=error.where, fix=error.fix)

    def _is_fresh(self, client: ApiClient, identifier: str) -> bool:
        """Whether the last answer for an id is too young to ask again."""
        hours = self.source.for_each.refresh_hours if self.source.for_each else 0
        if not hours or not self.state.answered:
            return False
        assert self.batch is not None
        answered = self.state.answered.get(client.location(self._id_url(client, identifier)))
        return answered is not None and self.batch.loaded_at - answered < timedelta(hours=hours)

    def _answer(self, client: ApiClient, number: int, identifier: str, future: Future[Answer] | None) -> Page | Failure:
        try:
            if future is None:
                fault = Fault("invalid_id", "the id makes no address", passes=False)
                raise self._no_answer(fault, client.hide(self.source.url))
            return self._answer_page(client, number, client.result(future))
        except AnswerError as error:
            record = json.dumps({"id": identifier}, ensure_ascii=False).encode()
            return Failure(number, error.where, error.reason, error.stage, error.what, error.attempts, record)

    def _answer_page(self, client: ApiClient, number: int, answer: Answer) -> Page:
        body, location = answer.body, client.location(answer.url)
        if not body.is_list and not body.count:
            at = f"at records_path {self.source.records_path!r}" if self.source.records_path else "in the answer"
            fault = Fault("no_record", f"there is no record {at}", passes=False, stage="parse")
            raise self._no_answer(fault, location)
        # Two ids whose answers are alike are still two records.
        content_hash = hashlib.sha256(f"{location}\n{body.content_hash}".encode()).hexdigest()
        return Page(number, location, body.records, content_hash, body.size_bytes, Position(number + 1))

    def _no_answer(self, fault: Fault, where: str) -> AnswerError:
        return AnswerError(fault, f"{self.name}: {fault}", 1, where=where, fix="see the source in penstock.yml")

    def _id_url(self, client: ApiClient, identifier: str) -> str:
        return client.address(client.url.replace("{id}", quote(identifier, safe="")), self.source.params)
