"""The ingest stage: every source read side by side, its parcels landed in raw; one that fails stops no other."""

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from foundation.errors import StorageError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Settings
from ingestion.drift import SchemaContract
from ingestion.landing import Landing
from ingestion.packages import Package
from ingestion.parcels import Batch, Parcel
from ingestion.parts import Part, parts_of, with_parents
from ingestion.reading import STAGE, PartResult, ReaderPool
from ingestion.sources import SourceReader
from ingestion.state import known_records, read_state, replayed_keys

# Parcels do not wait longer for others to be landed with, where nothing else is being landed: a kill undoes no more of
# a slow source, and little is left to land at its end.
LONGEST_WAIT_SECONDS = 2.0


@dataclass
class SourceResult:
    """What a run read of one source. `errors` are the files or pages that could not be read, and that ids could not."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class IngestResult:
    """The sources of a run, by name, and their parts."""

    sources: Mapping[str, SourceResult]
    parts: Sequence[PartResult]

    @property
    def errors(self) -> list[str]:
        """Every failure of every source."""
        return [error for result in self.sources.values() for error in result.errors]


def plan(root: Path, settings: Settings, *, started_at: datetime, only: Sequence[str] = ()) -> list[Part]:
    """The parts of every source, or of those in `only` and the sources they take ids from, in the order of reading.

    Raises ConfigError where the sources do not fit together.
    """
    return parts_of(root, settings, with_parents(settings, list(only) or list(settings.sources)), started_at.date())


def ingest(
    root: Path,
    settings: Settings,
    parts: Sequence[Part],
    *,
    run_id: str,
    started_at: datetime,
    variables: Mapping[str, str],
    emit: Emit,
) -> IngestResult:
    """Land what is new in every part; `variables` fill the ${NAME}s of API sources.

    A source that fails is told in the result. Raises LockedError or StorageError when raw cannot be written.
    """
    if "jemalloc" in pa.supported_memory_backends():
        # It gives more back between chunks than Arrow's usual allocator: the peak is some 60 MB lower.
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    folder = settings.temporary / "parcels"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(folder), fix="see temp_dir") from error
    failpoint("ingest.folder_made")
    landing = Landing(settings.warehouse, settings.work_dir)
    if landing.finish_pending():
        emit(Event("noticed", STAGE, message="finished what an interrupted run had packed"))
    failpoint("ingest.pending_finished")
    names = list(dict.fromkeys(part.source for part in parts))
    sources = {name: settings.sources[name] for name in names}
    state = read_state(settings.warehouse)
    failpoint("ingest.state_read")
    loaded_at = state.load_time(started_at)
    if loaded_at != started_at:
        told = (
            f"the clock is behind the last load, of {state.last_loaded_at:%Y-%m-%d %H:%M:%S}; loads bear a later time"
        )
        emit(Event("noticed", STAGE, message=told))
    declared = {name: getattr(source, "columns", []) for name, source in sources.items()}
    columns = {name: state.tables.get(name, declared[name]) for name in names}
    reader = SourceReader(
        root,
        settings,
        Batch(run_id, loaded_at, folder),
        variables,
        emit,
        state,
        known={
            name: known_records(settings.warehouse, name, source, state.of(name)) for name, source in sources.items()
        },
        contracts={name: SchemaContract(name, source, state.of(name)) for name, source in sources.items()},
        landed={
            part.source: replayed_keys(settings.warehouse, part.source, part.settings)
            for part in parts
            if part.replays is not None
        },
    )
    pool = ReaderPool(parts, sources, reader.parcels, settings.concurrency, emit)
    try:
        with landing, reader, contextlib.closing(pool.parcels()) as parcels:
            for package in _packages(parcels, folder, columns, landing):
                landing.land(package)
                failpoint("ingest.landing_begun")
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}", where=str(folder), fix="make room, then run again"
        ) from error
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise StorageError(
            f"DuckDB had to give up: {error}", where=str(folder), fix="give it disk or memory, then run again"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    failpoint("ingest.all_landed")
    results = {name: SourceResult() for name in names}
    for part in pool.results:
        results[part.part.source].counts.update(part.counts)
        results[part.part.source].errors += [*part.errors, *filter(None, [part.shortfall])]
    for name, result in results.items():
        emit(Event("failed" if result.errors else "finished", STAGE, name, "; ".join(result.errors), result.counts))
    return IngestResult(results, pool.results)


def _packages(
    parcels: Iterator[Parcel | None], folder: Path, columns: Mapping[str, Sequence[str]], landing: Landing
) -> Iterator[Package]:
    """`columns` holds those of the tables that are there; `landing` gets ready when there will be a package."""
    package: Package | None = None
    opened, is_first = 0.0, True
    for parcel in parcels:
        if parcel is not None:
            if package is None:
                package, opened = Package(folder, columns, is_first), time.monotonic()
                if is_first:
                    landing.prepare()
                is_first = False
            package.add(parcel)
            failpoint("ingest.parcel_written")
        is_due = time.monotonic() - opened > LONGEST_WAIT_SECONDS and not landing.is_busy
        if package and (package.is_full or is_due):
            failpoint("ingest.package_full")
            yield package
            columns, package = package.columns_after, None
    if package:
        yield package
