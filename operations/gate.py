"""The gate stage: the suites are judged in a worker; a critical no stops the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import GateError
from foundation.events import Emit
from foundation.failpoints import failpoint
from foundation.settings import Settings
from foundation.warehouse import address_of, warehouse_at
from operations import thresholds
from operations.workers import Worker, serve

MODULE = "operations.gate"
TOLD = 3  # failed checks in the error line; all of them are on the quality page
_WHAT_NOW = (
    "what was published before still stands; the report site and the rejected_ models tell the reasons; mend the data "
    "or the suite, or raise FAILURE_THRESHOLD_PERCENT for one run where that is what stopped it"
)


@dataclass(frozen=True)
class Verdict:
    """What a gate said: its checks as rows of the ledger, and a line for each that failed."""

    gate: str
    checks: list[dict[str, Any]]
    critical: list[str]
    warnings: list[str]

    def stop_if_closed(self) -> None:
        """Raises GateError that says what failed."""
        if self.critical:
            more = len(self.critical) - TOLD
            raise GateError(
                f"the {self.gate} gate is closed, nothing is published: {len(self.critical)} critical of "
                f"{len(self.checks)} checks failed: {' | '.join(self.critical[:TOLD])}"
                + (f" | and {more} more on the quality page" if more > 0 else ""),
                fix=_WHAT_NOW,
            )


def judge(worker: Worker, settings: Settings, gate: str, run_id: str, emit: Emit) -> Verdict:
    """Have a gate judged. The caller enters the checks in the ledger and then stops if it is closed."""
    answer = worker.ask(
        {
            "gate": gate,
            "warehouse": address_of(settings.warehouse),
            "temporary": str(settings.temporary),
            "run_id": run_id,
            "failure_threshold_percent": settings.failure_threshold_percent,
            "failure_min_records": settings.failure_min_records,
            "judged_apart": thresholds.sources_apart(settings),
        },
        emit,
    )
    return Verdict(gate, answer["checks"], answer["critical"], answer["warnings"])


def warm_up() -> None:
    """Import Great Expectations."""
    from expectations.gates import warm_up as import_library

    import_library()


def work(job: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Judge one gate in this process, which is the worker's."""
    from expectations.gates import explain, ledger_rows, run_gate

    result = run_gate(
        job["gate"],
        warehouse_at(job["warehouse"], Path(job["temporary"])),
        run_id=job["run_id"],
        failure_threshold_percent=job["failure_threshold_percent"],
        failure_min_records=job["failure_min_records"],
        judged_apart=job["judged_apart"],
        emit=emit,
    )
    failpoint("gate.measured")
    lines = list(zip(result.failures, explain(result), strict=True))
    return {
        "checks": ledger_rows(result),
        "critical": [line for check, line in lines if check.is_critical],
        "warnings": [line for check, line in lines if not check.is_critical],
    }


if __name__ == "__main__":
    serve(warm_up, work)
