"""Landing: what stands between the readers and dlt, which is imported when there is something to land."""

import hashlib
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from foundation.failpoints import failpoint
from foundation.warehouse import PostgresWarehouse, Warehouse
from ingestion.packages import Package

if TYPE_CHECKING:
    import dlt

# What DuckDB may keep in memory while it appends; it needs more where columns are many (measured up to 5,000).
MEMORY_MB, MEMORY_MB_A_COLUMN = 384, 1.5
FEW_COLUMNS, MOST_COLUMNS = 250, 16_384


class Landing:
    """Raw as the place where packages go, one after the other, in a thread of its own."""

    def __init__(self, warehouse: Warehouse, work_dir: Path) -> None:
        self._warehouse, self._work_dir = warehouse, work_dir
        self._open: dlt.Pipeline | None = None
        self._memory = 0
        self._pipelines = work_dir / "dlt" / _folder(warehouse)
        self._dlt = self._pipelines / "penstock"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="landing")
        self._under_way: Future[None] | None = None

    def __enter__(self) -> "Landing":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Wait for the last package. Raises LockedError or StorageError, unless something else has gone wrong."""
        with self._thread:
            if kind is None:
                self._wait()

    def finish_pending(self) -> bool:
        """Load what an interrupted run had packed; whether there was anything. Half-made packages are removed.

        Raises LockedError or StorageError.
        """
        for folder in (self._dlt / "normalize").glob("*/"):
            if folder.name not in ("normalized", "extracted"):
                shutil.rmtree(folder, ignore_errors=True)
        # What is loaded is in raw; dlt keeps a note of every package for ever.
        for folder in (self._dlt / "load" / "loaded").glob("*/"):
            shutil.rmtree(folder, ignore_errors=True)
        failpoint("landing.swept")
        pending = [self._dlt / "normalize" / "extracted", self._dlt / "load" / "new", self._dlt / "load" / "normalized"]
        if not any(next(folder.glob("*"), None) for folder in pending):
            return False
        from ingestion import pipeline

        done = pipeline.finish_pending(self._pipeline(MOST_COLUMNS), self._warehouse)
        # How wide that package was nobody knows; what comes now is known, and gets no more memory than it needs.
        self._open, self._memory = None, 0
        return done

    def prepare(self) -> None:
        """Import what landing needs, beside the reading of the first package."""
        self._thread.submit(self._pipeline, 0)

    @property
    def is_busy(self) -> bool:
        """Whether a package is being landed."""
        return self._under_way is not None and not self._under_way.done()

    def land(self, package: Package) -> None:
        """Append a package to raw, and remove its files, once the one before is there; returns when it has begun.

        Raises LockedError or StorageError for the one before.
        """
        self._wait()
        self._under_way = self._thread.submit(self._land, package)

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def _land(self, package: Package) -> None:
        from ingestion import pipeline

        pipeline.land(self._pipeline(package.width), self._warehouse, package)

    def _pipeline(self, columns: int) -> "dlt.Pipeline":
        """The pipeline, for tables of so many columns."""
        from ingestion import pipeline

        wanted = MEMORY_MB if columns <= FEW_COLUMNS else MEMORY_MB + int(columns * MEMORY_MB_A_COLUMN)
        if self._open is None or self._memory < wanted:
            self._open = pipeline.open_pipeline(self._warehouse, self._work_dir, self._pipelines, wanted)
            self._memory = wanted
        return self._open


def _folder(warehouse: Warehouse) -> str:
    """The folder of packages for one warehouse: what was packed for it must not be landed in another."""
    if isinstance(warehouse, PostgresWarehouse):
        return f"postgres-{hashlib.sha256(str(warehouse).encode()).hexdigest()[:12]}"
    return "pipelines"
