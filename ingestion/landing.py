"""Landing: what stands between the readers and dlt, which is imported when there is something to land."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.packages import Package

if TYPE_CHECKING:
    import dlt

# What DuckDB may keep in memory while it appends; it needs more where columns are many (measured up to 5,000).
MEMORY_MB, MEMORY_MB_A_COLUMN = 384, 1.5
FEW_COLUMNS, MOST_COLUMNS = 250, 16_384


class Landing:
    """Raw as the place where packages go. Every method that writes raises LockedError or StorageError."""

    def __init__(self, warehouse: Path, work_dir: Path) -> None:
        self._warehouse, self._work_dir = warehouse, work_dir
        self._open: dlt.Pipeline | None = None
        self._memory = 0
        self._columns: dict[str, list[str]] | None = None
        self._dlt = work_dir / "dlt" / "pipelines" / "penstock"

    def finish_pending(self) -> bool:
        """Load what an interrupted run had packed; whether there was anything. Half-made packages are removed."""
        for folder in (self._dlt / "normalize").glob("*/"):
            if folder.name not in ("normalized", "extracted"):
                shutil.rmtree(folder, ignore_errors=True)
        # What is loaded is in raw; dlt keeps a note of every package for ever.
        for folder in (self._dlt / "load" / "loaded").glob("*/"):
            shutil.rmtree(folder, ignore_errors=True)
        pending = [self._dlt / "normalize" / "extracted", self._dlt / "load" / "new", self._dlt / "load" / "normalized"]
        if not any(next(folder.glob("*"), None) for folder in pending):
            return False
        from ingestion import pipeline

        done = pipeline.finish_pending(self._pipeline(MOST_COLUMNS), self._warehouse)
        # How wide that package was nobody knows; what comes now is known, and gets no more memory than it needs.
        self._open, self._memory = None, 0
        return done

    def columns(self, declared: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """The columns that the table of each source has, or else those that are declared."""
        if self._columns is None:
            from ingestion import pipeline

            self._columns = pipeline.columns_of(self._pipeline(0), declared)
        return self._columns

    def land(self, package: Package) -> None:
        """Append a package to raw, and remove its files."""
        from ingestion import pipeline

        # What the tables will have, for the package that is filled meanwhile.
        self._columns = (self._columns or {}) | {name: files[-1].schema.names for name, files in package.files.items()}
        pipeline.land(self._pipeline(package.width), self._warehouse, package)

    def _pipeline(self, columns: int) -> "dlt.Pipeline":
        """The pipeline, for tables of so many columns."""
        from ingestion import pipeline

        wanted = MEMORY_MB if columns <= FEW_COLUMNS else MEMORY_MB + int(columns * MEMORY_MB_A_COLUMN)
        if self._open is None or self._memory < wanted:
            self._open, self._memory = pipeline.open_pipeline(self._warehouse, self._work_dir, wanted), wanted
        return self._open
