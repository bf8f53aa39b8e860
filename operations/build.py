"""The build stage: `dbt build` as a user would type it, and its failures as one line each."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from foundation.attaching import inexact_columns
from foundation.errors import BuildError, ConfigError, LockedError, StorageError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Settings
from foundation.warehouse import PostgresWarehouse, Warehouse, address_of, is_disk_full, memory_limit, warehouse_at
from operations.workers import Worker, serve

STAGE = "build"
LONGEST_MESSAGE = 300
MODULE = "operations.build"


def require_models(root: Path) -> None:
    """Raises ConfigError where there are no models, which every command needs that goes on from raw."""
    if not (root / "dbt_project.yml").is_file():
        raise ConfigError(
            "there is no dbt_project.yml, so nothing can be built or judged",
            where=str(root),
            fix="copy dbt_project.yml, profiles.yml, dbt_project/ and expectations/ there and add models for your "
            "sources (README, How to add), or pass --root; with penstock.yml alone only `penstock ingest` works",
        )


@dataclass(frozen=True)
class Built:
    """How many nodes passed and warned; the seconds that those of each domain took, which run side by side."""

    counts: dict[str, int]
    seconds: dict[str, float]


def build(worker: Worker, settings: Settings, as_of: date | None, emit: Emit) -> Built:
    """Build and test every model. Raises BuildError or LockedError."""
    return build_into(settings.warehouse, worker, settings.switches.model_dump(), as_of, emit)


def build_into(
    warehouse: Warehouse,
    worker: Worker,
    switches: Mapping[str, bool],
    as_of: date | None,
    emit: Emit,
    *,
    target_folder: Path | None = None,
) -> Built:
    """The same in any warehouse; what dbt makes beside goes to `target_folder`, by default to target/ at the root."""
    job = {"command": "build", "warehouse": address_of(warehouse), "variables": _variables(switches, as_of)}
    if target_folder is not None:
        job["target_folder"] = str(target_folder)
    answer = worker.ask(job, emit)
    if answer["failures"]:
        text = "; ".join(answer["failures"][:3])
        if "lock on file" in text:
            raise LockedError(
                "the warehouse is open in another process", where=str(warehouse), fix="close it, run again"
            )
        if is_disk_full(text):
            raise StorageError(f"dbt: {text}", where=str(warehouse), fix="make room, then run again")
        more = len(answer["failures"]) - 3
        raise BuildError(
            f"dbt: {text}" + (f"; and {more} more" if more > 0 else ""),
            fix="mend the model or the data; `dbt build` at the root shows all of it",
        )
    if isinstance(warehouse, PostgresWarehouse):
        _refuse_inexact(warehouse)
    return Built(answer["counts"], answer["seconds"])


def _refuse_inexact(warehouse: PostgresWarehouse) -> None:
    """Marts are read through DuckDB, which has no decimal without a precision and would round in silence."""
    if columns := inexact_columns(warehouse, "marts"):
        raise BuildError(
            f"{', '.join(columns[:3])}: numeric without a precision of at most 38 digits, which cannot be read exactly",
            where="marts",
            fix="cast it in the model, for example to decimal(18, 2), and name the type in its contract",
        )


def generate_docs(worker: Worker, settings: Settings, emit: Emit) -> Path:
    """dbt's documentation as one page that needs no server and no network. Raises BuildError."""
    answer = worker.ask({"command": "docs", "warehouse": address_of(settings.warehouse), "variables": {}}, emit)
    if answer["failures"]:
        raise BuildError(f"dbt docs: {answer['failures'][0]}", fix="`dbt docs generate` at the root shows all of it")
    return worker.root / "target" / "static_index.html"


def _variables(switches: Mapping[str, bool], as_of: date | None) -> dict[str, Any]:
    """Only what differs from the defaults: dbt parses the whole project anew when its variables change."""
    off = {f"enable_{name}": False for name, is_on in switches.items() if not is_on}
    return off | ({"as_of": as_of.isoformat()} if as_of else {})


def warm_up() -> None:
    """Import dbt."""
    import dbt.adapters.duckdb
    import dbt.cli.main  # noqa: F401


def work(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Run one dbt command in this process, which is the worker's."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    target = _point_at(warehouse_at(job["warehouse"]))
    # Unit tests judge the models, not the data: they belong to `make test` and to a `dbt build` by hand.
    arguments = {
        "build": ["build", "--exclude-resource-type", "unit_test"],
        "docs": ["docs", "generate", "--static", "--no-compile"],
    }[job["command"]]
    arguments += ["--target", target]
    if "target_folder" in job:
        arguments += ["--target-path", job["target_folder"]]
    if job["variables"]:
        arguments += ["--vars", json.dumps(job["variables"])]

    def listen(event: Any) -> None:
        if event.info.name == "LogModelResult":
            data = event.data
            failpoint("dbt.model_built")
            emit(
                Event(
                    "progressed", STAGE, None, data.node_info.node_name, {"nodes": data.index, "of_nodes": data.total}
                )
            )

    failpoint("dbt.begun")
    outcome = dbtRunner(callbacks=[listen]).invoke(
        [*arguments, "--log-level", "none", "--log-level-file", "info", "--quiet"]
    )
    failpoint("dbt.ended")
    DuckDBConnectionManager.close_all_connections()
    results: Sequence[Any] = getattr(outcome.result, "results", None) or []
    statuses = [str(result.status) for result in results if hasattr(result, "status")]
    failures = [
        _failure(result)
        for result in results
        if str(getattr(result, "status", "")) in ("error", "fail", "runtime error")
    ]
    if not outcome.success and not failures:
        failures = [_first_words(str(outcome.exception or "dbt failed and gave no reason; see logs/dbt.log"))]
    return {
        "failures": failures,
        "seconds": _seconds(results),
        "counts": {
            "passed": sum(status in ("success", "pass") for status in statuses),
            "warned": statuses.count("warn"),
        },
    }


def _seconds(results: Sequence[Any]) -> dict[str, float]:
    """By domain, the folder within a layer: the seconds of its nodes."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for result in results:
        path = Path(str(getattr(getattr(result, "node", None), "original_file_path", "")))
        if path.parts[:2] == ("dbt_project", "models") and len(path.parts) > 4:
            seconds[path.parts[3]] += float(result.execution_time)
    return dict(seconds)


def _point_at(warehouse: Warehouse) -> str:
    """Fill the variables that profiles.yml reads; the name of its target for this warehouse."""
    if isinstance(warehouse, PostgresWarehouse):
        from psycopg.pq import Conninfo

        # Those of libpq, so that every parameter counts (TLS, say) and `dbt build` by hand takes the usual ones.
        variables = {each.keyword.decode(): each.envvar.decode() for each in Conninfo.get_defaults() if each.envvar}
        os.environ.update({variables[name]: text for name, text in warehouse.parts().items() if name in variables})
        return "postgres"
    os.environ.setdefault("PENSTOCK_BUILD_MEMORY", memory_limit())
    # As profiles.yml spells it by default: dbt parses everything anew when its profile changes.
    here = Path.cwd()
    os.environ["PENSTOCK_WAREHOUSE"] = str(warehouse.relative_to(here) if warehouse.is_relative_to(here) else warehouse)
    return "duckdb"


def _failure(result: Any) -> str:
    kind = {"unit_test": "unit test", "test": "test"}.get(
        str(result.node.resource_type), str(result.node.resource_type)
    )
    return f"{kind} {result.node.name} ({result.node.original_file_path}): {_first_words(result.message or '')}"


def _first_words(message: str) -> str:
    """The part of dbt's message that says what is wrong, on one line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith(
        ("Runtime Error", "Database Error", "Compilation Error", "Parsing Error")
    ):
        lines = lines[1:]
    lines = [line for line in lines if not line.startswith((">", "compiled code at"))]
    text = " ".join(lines)
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE].rsplit(" ", 1)[0] + " ..."


if __name__ == "__main__":
    serve(warm_up, work)
