"""Pages on their way into raw: bundled, so that ten thousand pages do not make ten thousand files."""

import enum
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foundation.sources import ApiSource
from ingestion.parcels import Batch, DeadLetter, Load, Parcel, new_load_id, seal_pages
from ingestion.readers.apis.fields import field_values, known_mask, lagged, newest_by_page
from ingestion.readers.apis.walk import Page, Position

# A bundle is the most that a kill can undo, so it is bounded in every way.
BUNDLE_RECORDS = 50_000
BUNDLE_PAGES = 500
BUNDLE_BYTES = 32 * 1024 * 1024
BUNDLE_SECONDS = 10.0
WHOLE = "whole"  # the token of the last page of a walk that came to its end


class Ending(enum.Enum):
    """What comes after the last page of a bundle: nothing, pages that are still to be read, or all pages again."""

    WHOLE = "whole"
    CUT = "cut"
    UNSOUND = "unsound"


@dataclass(frozen=True)
class Failure:
    """An id of a for_each source that got no answer; `record` is JSON with the id."""

    number: int
    location: str
    reason: str
    stage: str
    message: str
    attempts: int
    record: bytes
    count = 1

    @property
    def following(self) -> Position:
        """Where the next id stands."""
        return Position(self.number + 1)

    def letter(self) -> DeadLetter:
        """The dead letter that tells of it."""
        return DeadLetter(
            self.reason, self.message, self.record, page=self.number, stage=self.stage, attempts=self.attempts
        )


@dataclass
class Reading:
    """What the bundles of one reading share, and how far it has come.

    `shown` spells an address without secrets, or tells that it cannot by None. `since` is where the walk began,
    `newest` the newest cursor, `records` how many came, all up to the last bundle. `query` is what is asked for.
    `has_cursor` is whether any record had one, None while no record came.
    """

    batch: Batch
    name: str
    partition: str
    source: ApiSource
    is_known: Callable[[Page], bool]
    shown: Callable[[str], str | None]
    query: str
    known_records: pa.Array | None = None
    collect: Mapping[str, list[str]] = field(default_factory=dict)
    since: str | None = None
    newest: str | None = None
    records: int = 0
    started_at: str = ""
    has_cursor: bool | None = None


class PageBundle:
    """Pages, or ids without an answer, that become one parcel."""

    def __init__(self, reading: Reading) -> None:
        self.items: list[Page | Failure] = []
        self._reading = reading
        self._records = self._bytes = 0
        self._started = time.monotonic()

    def add(self, item: Page | Failure) -> None:
        """Take one more page."""
        self.items.append(item)
        if isinstance(item, Page):
            self._records += item.count
            self._bytes += item.size_bytes

    def is_full(self) -> bool:
        """Whether the next page should start another bundle."""
        return (
            self._records >= BUNDLE_RECORDS
            or len(self.items) >= BUNDLE_PAGES
            or self._bytes >= BUNDLE_BYTES
            or time.monotonic() - self._started >= BUNDLE_SECONDS
        )

    def seal(self, ending: Ending) -> Parcel:
        """The parcel: one load a page. Raises ConfigError when cursor_lag cannot be taken from the cursor."""
        reading = self._reading
        records = self._table()
        page = records["page"].to_numpy()
        is_known = np.array([isinstance(item, Page) and reading.is_known(item) for item in self.items])
        is_object = pc.starts_with(records["record"], "{").to_numpy()
        is_dead = ~is_object & ~is_known[page]
        is_loaded = is_object & ~is_known[page]
        if reading.known_records is not None and len(reading.known_records):
            is_loaded &= ~known_mask(records, reading.known_records)
        for path, values in reading.collect.items():
            values += field_values(records, path)
        newest = self._newest(records)
        loaded, dead = (np.bincount(page[mask], minlength=len(self.items)) for mask in (is_loaded, is_dead))
        loads = []
        letters: list[tuple[Load, DeadLetter]] = []
        for index, item in enumerate(self.items):
            is_last = index == len(self.items) - 1
            reading.newest = newest.get(index, reading.newest)
            reading.records += item.count
            counts = (int(loaded[index]), int(dead[index]))
            # Only a walk that came to its end may move the cursor: pages need not be sorted by it.
            cursor = reading.newest if is_last and ending is Ending.WHOLE else None
            resume = self._resume(item) if not is_last or ending is Ending.CUT else None
            token = WHOLE if is_last and ending is Ending.WHOLE else None
            load = self._load(item, counts, cursor, resume, token, is_known=bool(is_known[index]))
            loads.append(load)
            if isinstance(item, Failure):
                letters.append((load, item.letter()))
        for row in np.flatnonzero(is_dead).tolist():
            load, text = loads[page[row]], records["record"][row].as_py()
            line = records["line"][row].as_py()
            letter = DeadLetter("not_an_object", "the item is not an object", text.encode(), line, page=load.lines)
            letters.append((load, letter))
        return seal_pages(loads, records.filter(pa.array(is_loaded)), letters)

    def _load(
        self,
        item: Page | Failure,
        counts: tuple[int, int],
        cursor: str | None,
        resume: str | None,
        token: str | None,
        *,
        is_known: bool,
    ) -> Load:
        reading, load_id = self._reading, new_load_id()
        loaded, dead = counts
        if isinstance(item, Failure):
            # Nothing came that could be hashed; each try is a letter of its own.
            content_hash, size, dead = hashlib.sha256(load_id.encode()).hexdigest(), 0, 1
        else:
            content_hash, size = item.content_hash, item.size_bytes
        return Load(
            load_id=load_id,
            run_id=reading.batch.run_id,
            source=reading.name,
            kind="api",
            location=item.location,
            content_hash=content_hash,
            size_bytes=size,
            start_bytes=0,
            position_bytes=size,
            lines=item.number,
            records_read=item.count,
            records_loaded=loaded,
            records_dead_lettered=dead,
            records_skipped=item.count - loaded - dead,
            columns="[]" if is_known else '["record"]',
            cursor=cursor,
            loaded_at=reading.batch.loaded_at,
            partition=reading.partition,
            token=token,
            resume=resume,
        )

    def _table(self) -> pa.Table:
        """Every record with its page (its index in the bundle) and its line (its number in the page)."""
        texts = [item.records if isinstance(item, Page) else pa.array([], pa.string()) for item in self.items]
        counts = np.array([len(text) for text in texts])
        first = np.repeat(np.cumsum(counts) - counts, counts)
        return pa.table(
            {
                "page": np.repeat(np.arange(len(texts)), counts),
                "line": np.arange(counts.sum()) - first + 1,
                "record": pa.chunked_array(texts, pa.string()),
            }
        )

    def _newest(self, records: pa.Table) -> dict[int, str]:
        reading = self._reading
        if reading.source.cursor_path is None:
            return {}
        newest = newest_by_page(records, reading.source.cursor_path, reading.newest)
        if len(records):
            reading.has_cursor = reading.has_cursor or any(page >= 0 for page in newest)
        if newest:
            lagged(newest[max(newest)], reading.source.cursor_lag)
        return newest

    def _resume(self, item: Page | Failure) -> str | None:
        """JSON of where the page after this one begins."""
        reading, following = self._reading, item.following
        if following is None:
            return None
        url = None if following.url is None else reading.shown(following.url)
        if following.url is not None and url is None:
            return None
        resume: dict[str, Any] = {
            "number": following.number,
            "at": following.at,
            "url": url,
            "since": reading.since,
            "newest": reading.newest,
            "records": reading.records,
            "previous": item.content_hash if isinstance(item, Page) and item.count else None,
            "started_at": reading.started_at,
            "read_at": reading.batch.loaded_at.isoformat(),
            "query": reading.query,
        }
        return json.dumps(resume)
