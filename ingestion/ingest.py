"""The ingest stage: every source read side by side, its parcels landed in raw; one that fails stops no other."""

import contextlib
import hashlib
import queue
import shutil
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from foundation.errors import PenstockError, SourceError, StorageError
from foundation.events import Emit, Event
from foundation.settings import Settings
from foundation.sources import ApiSource, CsvSource, FileSource, JsonSource, ParquetSource, Source
from ingestion.parcels import Batch, Parcel, ParcelDraft
from ingestion.readers.delimited import read_csv_file
from ingestion.readers.framing import KnownPrefix
from ingestion.readers.json_files import read_json_file
from ingestion.state import SourceState, read_state
from ingestion.stores import StoredFile, find_files

STAGE = "ingest"
# One package of dlt, and so the most work that a kill can undo.
PACKAGE_ROWS = 2_000_000


@dataclass
class SourceResult:
    """What a run read of one source. `errors` are the files or pages that could not be read."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class IngestResult:
    """The sources of a run, by name."""

    sources: Mapping[str, SourceResult]

    @property
    def errors(self) -> list[str]:
        """Every failure of every source."""
        return [error for result in self.sources.values() for error in result.errors]


def ingest(
    root: Path,
    settings: Settings,
    *,
    run_id: str,
    started_at: datetime,
    variables: Mapping[str, str],
    emit: Emit,
    only: Sequence[str] = (),
) -> IngestResult:
    """Land what is new in every source, or in those of `only`; `variables` fill the ${NAME}s of API sources.

    A source that fails is told in the result. Raises LockedError or StorageError when raw cannot be written.
    """
    from ingestion import pipeline as landing  # dlt takes its time to import

    folder = settings.temporary / "parcels"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(folder), fix="see temp_dir") from error
    landing.clear_leftovers(settings.work_dir)
    pipeline = landing.open_pipeline(settings.warehouse, settings.work_dir)
    if landing.finish_pending(pipeline, settings.warehouse):
        emit(Event("noticed", STAGE, message="finished what an interrupted run had packed"))
    state = read_state(settings.warehouse)
    sources = {name: source for name, source in settings.sources.items() if not only or name in only}
    reader = _Reader(root, settings, Batch(run_id, started_at, folder), variables, emit, state)
    declared = {name: source.columns for name, source in sources.items() if isinstance(source, CsvSource)}
    results = {name: SourceResult() for name in sources}
    try:
        with contextlib.closing(_read_all(reader, sources, results, settings.concurrency)) as parcels:
            for package in _packages(parcels):
                landing.land(pipeline, settings.warehouse, package, declared)
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}", where=str(folder), fix="make room, then run again"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, result in results.items():
        emit(Event("failed" if result.errors else "finished", STAGE, name, "; ".join(result.errors), result.counts))
    return IngestResult(results)


@dataclass(frozen=True)
class _Reader:
    root: Path
    settings: Settings
    batch: Batch
    variables: Mapping[str, str]
    emit: Emit
    state: Mapping[str, SourceState]

    def parcels(self, name: str, source: Source, result: SourceResult) -> Iterator[Parcel]:
        """The parcels of one source; what cannot be read is noted in `result`."""
        self.emit(Event("started", STAGE, name))
        state = self.state.get(name, SourceState())
        try:
            if isinstance(source, ApiSource):
                yield from self._pages(name, source, state)
            else:
                for file in find_files(self.root, source.path, self.settings.allowed_roots):
                    yield from self._file(name, source, file, state, result)
        except (SourceError, StorageError) as error:
            result.errors.append(error.one_line())
        except PenstockError as error:
            result.errors.append(f"{name}: {error.one_line()}")

    def _pages(self, name: str, source: ApiSource, state: SourceState) -> Iterator[Parcel]:
        from ingestion.readers.http_api import ApiReader

        return ApiReader(
            name,
            source,
            known=self.variables,
            max_retries=self.settings.max_retries,
            batch_size=self.settings.batch_size,
            known_pages={location: known.content_hash for location, known in state.prefixes.items()},
            cursor=state.cursors.get(""),
            batch=self.batch,
        ).parcels()

    def _file(
        self, name: str, source: FileSource, file: StoredFile, state: SourceState, result: SourceResult
    ) -> Iterator[Parcel]:
        known = state.prefixes.get(file.location)
        try:
            if known is None and (twin := _twin(file, state)) is not None:
                self._notice(name, f"{file.location} holds the same as {twin}, which is loaded; skipped")
                yield _empty_parcel(self.batch, name, source.type, file.location, state.prefixes[twin])
                return
            if isinstance(source, CsvSource):
                yield from read_csv_file(file, name, source, known, self.batch, lambda text: self._notice(name, text))
            elif isinstance(source, JsonSource):
                yield from read_json_file(file, name, source, known, self.batch)
            elif isinstance(source, ParquetSource):
                from ingestion.readers.parquet_files import read_parquet_file

                yield from read_parquet_file(
                    file, name, source, known, self.batch, lambda text: self._notice(name, text)
                )
        except (OSError, EOFError) as error:
            if getattr(error, "errno", None) in (28, 122):  # our own disk is full: no fault of the file
                raise
            result.errors.append(file.unreadable(error).one_line())
        except SourceError as error:
            result.errors.append(error.one_line())

    def _notice(self, name: str, message: str) -> None:
        self.emit(Event("noticed", STAGE, name, message))


def _twin(file: StoredFile, state: SourceState) -> str | None:
    """The location of a file with the same bytes, when this one is new under its name: renamed or copied."""
    size = file.size()
    candidates = {known.content_hash: place for place, known in state.prefixes.items() if known.position_bytes == size}
    if not candidates or size == 0:
        return None
    with file.open() as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return candidates.get(digest)


def _empty_parcel(batch: Batch, name: str, kind: str, location: str, twin: KnownPrefix) -> Parcel:
    draft = ParcelDraft(batch, name, kind, location, twin.content_hash)
    return draft.seal(
        columns=[], loaded=0, size_bytes=twin.position_bytes, position_bytes=twin.position_bytes, lines=twin.lines
    )


def _read_all(
    reader: _Reader, sources: Mapping[str, Source], results: Mapping[str, SourceResult], concurrency: int
) -> Generator[Parcel]:
    """The parcels of all sources as they come, read by `concurrency` threads that wait when nobody takes them."""
    ready: queue.Queue[Parcel | BaseException | None] = queue.Queue(maxsize=concurrency)
    stopped = threading.Event()

    def read(name: str) -> None:
        columns = _first_columns(sources[name], reader.state.get(name, SourceState()))
        contents: dict[str, str] = {}
        try:
            for parcel in reader.parcels(name, sources[name], results[name]):
                parcel = _skip_copy(reader, name, contents, parcel)
                columns = _report_drift(reader, name, columns, parcel)
                _count(results[name], parcel)
                reader.emit(Event("progressed", STAGE, name, counts=dict(results[name].counts)))
                ready.put(parcel)
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the thread that lands, which raises it
            ready.put(error)
        finally:
            ready.put(None)

    with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="reader") as pool:
        for name in sources:
            pool.submit(read, name)
        running = len(sources)
        try:
            while running:
                item = ready.get()
                if item is None:
                    running -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:  # let the readers go that wait for a place in the queue
            stopped.set()
            while running:
                running -= ready.get() is None


def _packages(parcels: Iterator[Parcel]) -> Iterator[list[Parcel]]:
    package: list[Parcel] = []
    for parcel in parcels:
        package.append(parcel)
        if sum(held.count("read") for held in package) >= PACKAGE_ROWS:
            yield package
            package = []
    if package:
        yield package


def _count(result: SourceResult, parcel: Parcel) -> None:
    result.counts.update({what: parcel.count(what) for what in ("read", "loaded", "dead_lettered", "skipped")})


def _first_columns(source: Source, state: SourceState) -> Sequence[str]:
    """What the columns of a new file are compared with: those that penstock.yml names, or those met last."""
    if isinstance(source, CsvSource) and source.columns:
        return source.columns
    return next((columns for columns in reversed(list(state.columns.values())) if columns), ())


def _skip_copy(reader: _Reader, name: str, contents: dict[str, str], parcel: Parcel) -> Parcel:
    """Of two files or pages of one run with the same content only the first is loaded: content is a row's identity."""
    load = parcel.loads[0]
    first = contents.setdefault(load.content_hash, load.location)
    if first == load.location or not parcel.count("read"):
        return parcel
    reader.emit(Event("noticed", STAGE, name, f"{load.location} holds the same as {first}; skipped"))
    return parcel.as_skipped()


def _report_drift(reader: _Reader, name: str, before: Sequence[str], parcel: Parcel) -> Sequence[str]:
    """Tell which columns came and went; what to compare the next file with.

    A file is compared with itself when it was last read, a new one with the columns that penstock.yml names, or else
    with the file before it.
    """
    now = list(parcel.row_columns)
    if not now:
        return before
    usual = reader.state.get(name, SourceState()).columns.get(parcel.loads[0].location) or before
    added, gone = [column for column in now if column not in usual], [column for column in usual if column not in now]
    if usual and (added or gone):
        parts = [f"new columns {', '.join(added)}"] if added else []
        parts += [f"columns gone {', '.join(gone)}"] if gone else []
        reader.emit(Event("noticed", STAGE, name, f"schema drift in {parcel.loads[0].location}: {'; '.join(parts)}"))
    source = reader.settings.sources[name]
    return before if isinstance(source, CsvSource) and source.columns else now
