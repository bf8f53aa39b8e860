"""Where parcels go: one dlt pipeline into the schema `raw` of the warehouse, one package a landing.

dlt keeps a package in its work folder until all of it is loaded, so a landing that was cut off is finished first
thing in the next run. Rows are marked complete by their load record, whose package dlt notes in `_dlt_loads`.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.common.normalizers.naming.direct import NamingConvention
from dlt.pipeline.exceptions import PipelineStepFailed

from foundation.errors import LockedError, StorageError
from foundation.warehouse import is_disk_full
from ingestion.parcels import Load, Parcel

DATASET = "raw"
_LINEAGE_TYPES = {"_line": "bigint", "_loaded_at": "timestamp"}
_LETTER_TYPES = {
    "line": "bigint",
    "byte_offset": "bigint",
    "byte_length": "bigint",
    "page": "bigint",
    "record_bytes": "binary",
    "attempts": "bigint",
    "occurred_at": "timestamp",
}
_LOAD_TYPES = {
    "size_bytes": "bigint",
    "start_bytes": "bigint",
    "position_bytes": "bigint",
    "lines": "bigint",
    "records_read": "bigint",
    "records_loaded": "bigint",
    "records_dead_lettered": "bigint",
    "records_skipped": "bigint",
    "loaded_at": "timestamp",
}
_LINEAGE = ("_source", "_location", "_content_hash", "_line", "_load_id", "_run_id", "_loaded_at")


def open_pipeline(warehouse: Path, work_dir: Path) -> dlt.Pipeline:
    """The pipeline into `warehouse`, with every folder of dlt inside `work_dir`."""
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")  # its warnings are ours to say, as events
    os.environ["DLT_DATA_DIR"] = str(work_dir / "dlt")
    os.environ["SCHEMA__NAMING"] = NamingConvention.__module__  # names as penstock.yml and ingestion.names spell them
    os.environ["DESTINATION__STAGING_DATASET_NAME_LAYOUT"] = "%s_load"  # `staging` is a word of our own
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    return dlt.pipeline(
        "penstock",
        pipelines_dir=str(work_dir / "dlt" / "pipelines"),
        destination=dlt.destinations.duckdb(str(warehouse)),
        dataset_name=DATASET,
    )


def finish_pending(pipeline: dlt.Pipeline, warehouse: Path) -> bool:
    """Load what an interrupted run had packed; whether there was anything."""
    with _explained(pipeline, warehouse):
        if not pipeline.has_pending_data:
            return False
        pipeline.normalize()
        pipeline.load()
        return True


def clear_leftovers(work_dir: Path) -> None:
    """Remove what killed runs left half made. Packages that are complete stay, for finish_pending."""
    half_made = work_dir / "dlt" / "pipelines" / "penstock" / "normalize"
    for folder in half_made.glob("*/"):
        if folder.name not in ("normalized", "extracted"):
            shutil.rmtree(folder, ignore_errors=True)


def land(
    pipeline: dlt.Pipeline, warehouse: Path, parcels: Sequence[Parcel], declared: Mapping[str, Sequence[str]]
) -> None:
    """Append the parcels to raw, all in one package, and remove their files.

    `declared` holds the columns that the table of a source always has. Raises LockedError or StorageError.
    """
    if not parcels:
        return
    resources = [
        _rows(name, [parcel for parcel in parcels if parcel.source == name], declared.get(name, ()))
        for name in sorted({parcel.source for parcel in parcels if parcel.rows})
    ]
    with _explained(pipeline, warehouse):
        pipeline.run([*resources, _dead_letters(parcels), _loads(parcels)], loader_file_format="parquet")
    for parcel in parcels:
        parcel.remove_files()


def _rows(name: str, parcels: Sequence[Parcel], declared: Sequence[str]) -> Any:
    @dlt.resource(name=name, write_disposition="append", columns=_hints([*declared, *_LINEAGE], _LINEAGE_TYPES))
    def rows() -> Iterator[Any]:
        for parcel in parcels:
            if parcel.rows is not None:
                hints = _hints([*declared, *parcel.row_columns, *_LINEAGE], _LINEAGE_TYPES)
                yield _import_file(parcel.rows, parcel.count("loaded"), hints)

    return rows()


def _dead_letters(parcels: Sequence[Parcel]) -> Any:
    from ingestion.parcels import DEAD_LETTER_SCHEMA

    hints = _hints(DEAD_LETTER_SCHEMA.names, _LETTER_TYPES)

    @dlt.resource(name="dead_letters", write_disposition="append", columns=hints)
    def dead_letters() -> Iterator[Any]:
        for parcel in parcels:
            if parcel.dead_letters is not None:
                yield _import_file(parcel.dead_letters, parcel.count("dead_lettered"), hints)

    return dead_letters()


def _loads(parcels: Sequence[Parcel]) -> Any:
    names = [field.name for field in fields(Load)]

    @dlt.resource(name="loads", write_disposition="append", columns=_hints(names, _LOAD_TYPES))
    def loads() -> Iterator[dict[str, Any]]:
        for parcel in parcels:
            for load in parcel.loads:
                yield asdict(load)

    return loads()


def _hints(columns: Sequence[str], types: Mapping[str, str]) -> Any:
    return {
        column: {"name": column, "data_type": types.get(column, "text"), "nullable": True}
        for column in dict.fromkeys(columns)
    }


def _import_file(path: Path, rows: int, hints: Any) -> Any:
    return dlt.mark.with_file_import(str(path), "parquet", rows, hints=dlt.mark.make_hints(columns=hints))


@contextlib.contextmanager
def _explained(pipeline: dlt.Pipeline, warehouse: Path) -> Iterator[None]:
    try:
        yield
    except PipelineStepFailed as error:
        text = _root_cause(error)
        if "lock on file" in text:
            raise LockedError(
                "the warehouse is open in another process", where=str(warehouse), fix="close it, run again"
            ) from error
        if is_disk_full(text):
            raise StorageError(
                f"loading into raw failed: {text}",
                where=str(warehouse),
                fix="make room, then run again; what was packed is kept and goes in first",
            ) from error
        # A package that cannot be loaded would block every later run. Dropping it loses nothing: its load records
        # are not complete, so its rows stay out of sight and the next run reads the same files again.
        pipeline.drop_pending_packages()
        raise StorageError(
            f"loading into raw failed: {text}", where=str(warehouse), fix="mend the cause; the next run reads it again"
        ) from error


def _root_cause(error: BaseException) -> str:
    """The innermost message of a failed step, on one line."""
    text = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, duckdb.Error | OSError) or not isinstance(cause, PipelineStepFailed):
            text = str(cause) or text
        cause = cause.__cause__ or cause.__context__
    return " ".join(text.split())[:400]
