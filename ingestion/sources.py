"""One part of a source, read by the reader of its kind; copies, drift and unchanged files are seen to here."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from foundation.errors import SourceError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Settings
from foundation.sources import ApiSource, CsvSource, ForEach, JsonSource, ParquetSource, Source
from ingestion.drift import SchemaContract
from ingestion.parcels import LINEAGE_SCHEMA, Batch, Parcel, ParcelDraft
from ingestion.parts import Part, parent_of
from ingestion.readers.csv_files.encodings import open_text
from ingestion.readers.csv_files.files import read_csv_file, reads_alike
from ingestion.readers.framing import KnownPrefix
from ingestion.readers.json_files.files import read_json_file
from ingestion.readers.parquet_files.files import read_parquet_file
from ingestion.readers.replays import ReplayReader, as_replayed
from ingestion.reading import STAGE, PartResult
from ingestion.state import SourceState, State, replay_settings, version_token, walked_values
from ingestion.stores import StoredFile, find_files

if TYPE_CHECKING:
    from ingestion.readers.apis.client import ApiClients

# Of many copies in one parcel, so many are named.
MOST_TOLD = 3
# The bracket and white space that may follow the last item of a document.
LONGEST_END = 64
CLOSING = (b"", b"]")
BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class SourceReader:
    """Reads the parts of all sources, from several threads.

    Per source: `known` are the digests of records that a lag window brings again, `contracts` the schemas that hold,
    `landed` the keys of replays that raw has.
    """

    root: Path
    settings: Settings
    batch: Batch
    variables: Mapping[str, str]
    emit: Emit
    state: State
    known: Mapping[str, pa.Array | None]
    contracts: Mapping[str, SchemaContract]
    landed: Mapping[str, pa.Array] = field(default_factory=dict)
    _contents: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    _ids: dict[str, dict[str, list[str]]] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        # By source and field: the values that sources with for_each wait for, also those of walks that were cut off.
        ids: dict[str, dict[str, list[str]]] = defaultdict(dict)
        for source in self.settings.sources.values():
            if isinstance(source, ApiSource) and source.for_each:
                ids[source.for_each.source][source.for_each.field] = []
        for name, fields in ids.items():
            fields.update(walked_values(self.settings.warehouse, name, self.state.of(name), list(fields)))
        object.__setattr__(self, "_ids", ids)

    def __enter__(self) -> "SourceReader":
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection to an API."""
        self._open.close()

    @cached_property
    def _clients(self) -> "ApiClients":
        from ingestion.readers.apis.client import ApiClients  # httpx takes its time to import

        settings = self.settings
        clients = ApiClients(
            self.variables,
            concurrency=settings.concurrency,
            max_retries=settings.max_retries,
            batch_size=settings.batch_size,
            sources=[source for source in settings.sources.values() if isinstance(source, ApiSource)],
        )
        return self._open.enter_context(clients)

    def parcels(self, result: PartResult) -> Iterator[Parcel]:
        """The parcels of one part; the errors of single files are noted in `result`. Raises PenstockError."""
        part = result.part
        if part.problem is not None:
            raise part.problem
        if part.nothing:
            self._notice(part.source, part.nothing)
            return
        if part.replays is not None:
            yield from self._replays(part, part.replays)
            return
        state = self.state.of(part.source)
        if isinstance(part.settings, ApiSource):
            found = self._pages(part, part.settings, state, result.parents)
        else:
            found = self._files(part, state, result)
        for parcel in found:
            parcel = self.contracts[part.source].check(self._skip_copies(part.source, parcel), self._notice)
            if isinstance(part.settings, ApiSource) and part.settings.for_each:
                result.unanswered.update(parcel.unanswered())
            yield replace(parcel, loads=[replace(load, partition=part.name) for load in parcel.loads])

    def _replays(self, part: Part, file: Path) -> Iterator[Parcel]:
        held = self.state.tables.get(part.source, ())
        names = dict.fromkeys([*held, *getattr(part.settings, "columns", ())])
        reader = ReplayReader(
            part.source,
            part.settings,
            self.batch,
            [name for name in names if name not in LINEAGE_SCHEMA.names],
            self.contracts[part.source].expected_fields,
            self.landed[part.source],
            replay_settings(part.settings),
        )
        for parcel in reader.parcels(file):
            yield replace(parcel, loads=[replace(load, partition=part.name) for load in parcel.loads])

    def _pages(
        self, part: Part, source: ApiSource, state: SourceState, parents: Sequence[PartResult]
    ) -> Iterator[Parcel]:
        from ingestion.readers.apis.reader import ApiReader

        with self._lock:
            clients = self._clients
            collect = self._ids[part.source]
            parent = parent_of(source)
            ids = self._ids[parent].get(source.for_each.field, []) if parent and source.for_each else None
        if part.ids is not None:
            # A walk that was cut off is left where it is.
            ids, state = list(part.ids), replace(state, resumes={}, answered={})
        elif source.for_each and not ids:
            self._tell_why_no_ids(part.source, source.for_each, parents)
        parcels = ApiReader(
            part.source,
            source,
            clients,
            self.batch,
            partition=part.name,
            state=state,
            known_records=self.known[part.source],
            ids=ids,
            collect=collect,
            notice=lambda text: self._notice(part.source, text),
        ).parcels()
        if part.ids is None:
            return parcels
        resume = self.state.of(part.source).resumes.get(part.name)
        return (as_replayed(parcel, resume) for parcel in parcels)

    def _tell_why_no_ids(self, name: str, for_each: ForEach, parents: Sequence[PartResult]) -> None:
        parent = for_each.source
        if any(one.errors for one in parents):
            raise SourceError(f"{name}: no id to ask for, because {parent} failed", fix="run again once that is read")
        if sum(one.counts["read"] for one in parents):
            self._notice(name, f"no record of {parent} has the field {for_each.field!r}, so nothing is asked for")

    def _files(self, part: Part, state: SourceState, result: PartResult) -> Iterator[Parcel]:
        source = part.settings
        assert not isinstance(source, ApiSource)
        files = part.files or find_files(self.root, source.path, self.settings.allowed_roots)
        for file in files:
            token = version_token(file.token, source)
            if token is not None and token == state.tokens.get(file.location):
                continue
            failpoint("file.found")
            held: Parcel | None = None
            try:
                for parcel in self._file(part, file, state):
                    failpoint("file.parsed")
                    if held is not None:
                        yield held
                    held = parcel
                # Only a file that was read to its end is known by its token.
                if held is not None:
                    held = replace(held, loads=[replace(load, token=token) for load in held.loads])
                    failpoint("file.read")
            except (OSError, EOFError) as error:
                if getattr(error, "errno", None) in (28, 122):  # our own disk is full: no fault of the file
                    raise
                unreadable = file.unreadable(error)
                unreadable.__cause__ = error
                result.fail(unreadable)
            except SourceError as error:
                result.fail(error)
            if held is not None:
                yield held

    def _file(self, part: Part, file: StoredFile, state: SourceState) -> Iterator[Parcel]:
        name, source = part.source, part.settings
        known = state.prefixes.get(file.location)

        def notice(text: str) -> None:
            self._notice(name, text)

        twin = _twin(file, source, state) if known is None else None
        if twin is not None and isinstance(source, CsvSource) and not reads_alike(file, source, state.prefixes[twin]):
            known, twin = state.prefixes[twin], None
        if twin is not None:
            notice(f"{file.location} holds the same as {twin}, which is loaded; skipped")
            yield _empty_parcel(self.batch, name, source.type, file.location, state.prefixes[twin])
        elif isinstance(source, CsvSource):
            expected = self.contracts[name].expected_columns
            yield from read_csv_file(file, name, source, known, self.batch, notice, expected)
        elif isinstance(source, JsonSource):
            yield from read_json_file(file, name, source, known, self.batch, self.contracts[name].expected_fields)
        elif isinstance(source, ParquetSource):
            yield from read_parquet_file(file, name, source, known, self.batch, notice)

    def _skip_copies(self, name: str, parcel: Parcel) -> Parcel:
        """Of two files or pages with the same content only the first is loaded: content is a row's identity."""
        copies = {}
        with self._lock:
            for load in parcel.loads:
                if load.records_loaded + load.records_dead_lettered:
                    place = f"{load.location} {load.start_bytes}"
                    first = self._contents[name].setdefault(f"{load.content_hash} {load.start_bytes}", place)
                    if first != place:
                        copies[load.load_id] = f"{load.location} holds the same as {first.rpartition(' ')[0]}; skipped"
        for told in list(copies.values())[:MOST_TOLD]:
            self._notice(name, told)
        return parcel.skipping(list(copies)) if copies else parcel

    def _notice(self, name: str, message: str) -> None:
        self.emit(Event("noticed", STAGE, name, message))


def _twin(file: StoredFile, source: Source, state: SourceState) -> str | None:
    """The location of a file with the same bytes, when this one is new under its name: renamed or copied.

    Of a document the bracket that closes it is not part of what was read.
    """
    size = file.size()
    near = {
        (known.position_bytes, known.content_hash): place
        for place, known in state.prefixes.items()
        if known.position_bytes and 0 <= size - known.position_bytes <= LONGEST_END
    }
    if not near:
        return None
    # Read once, however many files are as long: the hash up to each place where one of them ended.
    found, digest, done = None, hashlib.sha256(), 0
    with file.open() as stored:
        stream = open_text(stored, source.encoding).stream if isinstance(source, CsvSource) else stored
        for position in sorted({position for position, _ in near}):
            end = b""
            while done < position and (block := stream.read(min(position - done, BLOCK_BYTES))):
                digest.update(block)
                done += len(block)
                end = block
            if found is not None and end.strip() not in CLOSING:
                found = None
            found = near.get((done, digest.hexdigest()), found)
        return found if stream.read().strip() in CLOSING else None


def _empty_parcel(batch: Batch, name: str, kind: str, location: str, twin: KnownPrefix) -> Parcel:
    draft = ParcelDraft(batch, name, kind, location, twin.content_hash, twin.dialect)
    return draft.seal(columns=[], size_bytes=twin.position_bytes, position_bytes=twin.position_bytes, lines=twin.lines)
