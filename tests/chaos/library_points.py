"""Failpoints inside dlt, where no line of ours can stand: before and after a load job, its commit, its note."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from foundation.failpoints import failpoint

# Module, class and method; a method of a subclass that lacks it is that of its base.
STEPS = {
    "dlt.extracted": ("dlt.extract.extract", "Extract", "commit_packages"),
    "dlt.normalized": ("dlt.normalize.normalize", "Normalize", "run"),
    "dlt.job_duckdb": ("dlt.destinations.impl.duckdb.duck", "DuckDbCopyJob", "run"),
    "dlt.job_postgres": ("dlt.destinations.impl.postgres.postgres", "PostgresParquetCopyJob", "run"),
    "dlt.job_marked": ("dlt.common.storages.load_package", "PackageStorage", "complete_job"),
    "dlt.load_noted": ("dlt.destinations.job_client_impl", "SqlJobClientBase", "complete_load"),
    "dlt.package_complete": ("dlt.load.load", "Load", "complete_package"),
    "dlt.state_saved": ("dlt.pipeline.pipeline", "Pipeline", "_save_state"),
}
NAMES = tuple(f"{step}_{moment}" for step in STEPS for moment in ("before", "after"))


def install() -> None:
    """Put a failpoint on both sides of each step."""
    for step, (module, owner, method) in STEPS.items():
        holder = getattr(importlib.import_module(module), owner)
        setattr(holder, method, _between(step, getattr(holder, method)))


def _between(step: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def passed(*arguments: Any, **named: Any) -> Any:
        failpoint(f"{step}_before")
        result = original(*arguments, **named)
        failpoint(f"{step}_after")
        return result

    return passed
