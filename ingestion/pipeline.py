"""Where parcels go: one dlt pipeline into the schema `raw` of the warehouse, one package a landing.

dlt keeps a package in its work folder until all of it is loaded, so a landing that was cut off is finished first
thing in the next run. Rows are marked complete by their load record, whose package dlt notes in `_dlt_loads`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow as pa
from dlt.common.configuration.specs import ConnectionStringCredentials
from dlt.common.normalizers.naming.direct import NamingConvention
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from dlt.pipeline.exceptions import PipelineStepFailed

from foundation.errors import LockedError, StorageError
from foundation.failpoints import failpoint
from foundation.warehouse import PostgresWarehouse, Warehouse, is_disk_full
from ingestion.packages import Package, TableFile
from ingestion.parcels import Load

DATASET = "raw"


# dlt reads and tells the path of a warehouse as a URL, for which it imports SQLAlchemy: 0.4 s of every first landing.
DuckDbCredentials.__str__ = lambda self: str(self.database)


def open_pipeline(warehouse: Warehouse, work_dir: Path, pipelines: Path, memory_mb: int) -> dlt.Pipeline:
    """The pipeline into `warehouse`, with its folder in `pipelines` and every other of dlt inside `work_dir`.

    DuckDB keeps what it reads and writes in memory, up to `memory_mb`.
    """
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")  # its warnings are ours to say, as events
    os.environ["DLT_DATA_DIR"] = str(work_dir / "dlt")
    os.environ["SCHEMA__NAMING"] = NamingConvention.__module__  # names as penstock.yml and ingestion.names spell them
    os.environ["LOAD__DELETE_COMPLETED_JOBS"] = "true"  # their rows are in raw
    os.environ["DESTINATION__STAGING_DATASET_NAME_LAYOUT"] = "%s_load"  # `staging` is a word of our own
    return dlt.pipeline(
        "penstock",
        pipelines_dir=str(pipelines),
        destination=_destination(warehouse, memory_mb),
        dataset_name=DATASET,
    )


def _destination(warehouse: Warehouse, memory_mb: int) -> Any:
    if isinstance(warehouse, PostgresWarehouse):
        # Rows go from the parquet file into COPY through ADBC.
        from dlt.destinations.impl.postgres.configuration import PostgresCredentials

        PostgresCredentials.to_native_representation = _native_representation
        # Without dlt's unique index on its row ids: a kill between a commit and its note has the rows sent again, which
        # the index would refuse in every run from then on. Models and books count a load once.
        return dlt.destinations.postgres(warehouse.driver_url(), create_indexes=False)
    # Rows know their line; without an order of its own a table is written once, and not again at the checkpoint.
    settings = {"preserve_insertion_order": False, "memory_limit": f"{memory_mb}MB"}
    credentials = DuckDbCredentials(global_config=settings)
    credentials.database = str(warehouse)
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    return dlt.destinations.duckdb(credentials)


def _native_representation(credentials: Any) -> str:
    """The connection string; dlt leaves a space in a password as it is, which libpq refuses."""
    return str(ConnectionStringCredentials.to_native_representation(credentials)).replace(" ", "%20")


def finish_pending(pipeline: dlt.Pipeline, warehouse: Warehouse) -> bool:
    """Load what an interrupted run had packed; whether there was anything."""
    with _explained(pipeline, warehouse):
        if not pipeline.has_pending_data:
            return False
        pipeline.normalize()
        failpoint("pending.normalized")
        pipeline.load()
        failpoint("pending.loaded")
        return True


def land(pipeline: dlt.Pipeline, warehouse: Warehouse, package: Package) -> None:
    """Append a package to raw, and remove its files. Raises LockedError or StorageError."""
    if not package.loads:
        return
    package.close()
    failpoint("package.closed")
    resources = [_table(name, files) for name, files in package.files.items()]
    with _explained(pipeline, warehouse):
        pipeline.run([*resources, _loads(package.loads)], loader_file_format="parquet")
    failpoint("package.loaded")
    package.remove()
    failpoint("package.removed")


def _table(name: str, files: Sequence[TableFile]) -> Any:
    @dlt.resource(name=name, write_disposition="append", columns=_hints(files[-1].schema))
    def rows() -> Iterator[Any]:
        for file in files:
            hints = dlt.mark.make_hints(columns=_hints(file.schema))
            yield dlt.mark.with_file_import(str(file.path), "parquet", file.rows, hints=hints)

    return rows()


def _loads(loads: Sequence[Load]) -> Any:
    kinds: dict[Any, str] = {int: "bigint", datetime: "timestamp"}
    columns: Any = {each.name: _column(each.name, kinds.get(each.type, "text")) for each in fields(Load)}

    @dlt.resource(name="loads", write_disposition="append", columns=columns)
    def rows() -> Iterator[dict[str, Any]]:
        for load in loads:
            yield dict(vars(load))

    return rows()


def _hints(schema: pa.Schema) -> Any:
    return {name: _column(name, _data_type(kind)) for name, kind in zip(schema.names, schema.types, strict=True)}


def _column(name: str, data_type: str) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "nullable": True}


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "bigint"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return "binary" if pa.types.is_binary(kind) else "text"


@contextlib.contextmanager
def _explained(pipeline: dlt.Pipeline, warehouse: Warehouse) -> Iterator[None]:
    try:
        yield
    except PipelineStepFailed as error:
        text = _root_cause(error)
        if isinstance(warehouse, PostgresWarehouse):
            text = warehouse.redacted(text)
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
        pipeline.abort_packages()
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
