"""The gate stage in its worker: asks the suites, tells the ledger's rows back, and stops the run on a critical no."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foundation.errors import GateError
from foundation.events import Emit
from foundation.settings import Settings
from operations.workers import Worker


def judge(worker: Worker, settings: Settings, gate: str, run_id: str, emit: Emit) -> list[dict[str, Any]]:
    """The checks of a gate, as ledger rows; the caller enters them and then asks `stop_if_closed`."""
    answer = worker.ask(
        {
            "gate": gate,
            "warehouse": str(settings.warehouse),
            "run_id": run_id,
            "failure_threshold_percent": settings.failure_threshold_percent,
        },
        emit,
    )
    return list(answer["checks"])


def stop_if_closed(gate: str, checks: Sequence[Mapping[str, Any]]) -> None:
    """Raises GateError with a line for each critical expectation that failed."""
    from expectations.gates import Check, explain_checks

    failed = [check for check in checks if not check["is_success"] and check["severity"] == "critical"]
    if failed:
        raise GateError(
            f"the {gate} gate is closed, nothing is published: {len(failed)} critical of {len(checks)} checks failed",
            where=" | ".join(explain_checks([Check(**check) for check in failed])),
            fix="mend the data or the suite, then run again; what was published before still stands",
        )


def warm_up() -> None:
    """Import Great Expectations."""
    from expectations.gates import warm_up as import_library

    import_library()


def work(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Run one gate in this process, which is the worker's."""
    from expectations.gates import run_gate

    result = run_gate(
        job["gate"],
        Path(job["warehouse"]),
        run_id=job["run_id"],
        failure_threshold_percent=job["failure_threshold_percent"],
        emit=emit,
    )
    return {"is_open": result.is_open, "checks": [asdict(check) for check in result.checks]}
