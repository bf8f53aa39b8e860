"""The quality page: what each expectation of the last judgement found, beside what is allowed and why."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from operations.site.writing import write_page

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Tally:
    """How many checks came out how."""

    passed: int
    warned: int
    failed: int

    @property
    def verdict(self) -> str:
        """The worst of them: "fail", "warn" or "pass"; "none" when there is no check."""
        if not (self.passed or self.warned or self.failed):
            return "none"
        return "fail" if self.failed else "warn" if self.warned else "pass"


def render_quality_page(checks: Sequence[Row], out: Path, *, generated_at: datetime) -> Path:
    """The page at `out` from rows of ops.gate_results, of one judgement of each gate.

    `samples` may be a list or its JSON text; a row without `allowed` shows none.
    """
    shown = [_shown(check) for check in checks]
    gates = [
        {
            "name": gate,
            "tally": _tally(of_gate),
            "run_id": of_gate[0]["run_id"],
            "checked_at": of_gate[0]["checked_at"],
            "suites": [
                {"name": suite, "tally": _tally(of_suite), "checks": of_suite}
                for suite, of_suite in _grouped(of_gate, "suite")
            ],
        }
        for gate, of_gate in _grouped(shown, "gate")
    ]
    failures = [check for check in shown if check["verdict"] != "pass"]
    failures.sort(key=lambda check: str(check["verdict"]))
    values = {"gates": gates, "failures": failures, "tally": _tally(shown), "generated_at": generated_at}
    return write_page(out, "quality.html.j2", values)


def tally(checks: Iterable[Row]) -> Tally:
    """The count of each verdict over rows of ops.gate_results."""
    return _tally({"verdict": verdict(check)} for check in checks)


def _tally(shown: Iterable[Row]) -> Tally:
    verdicts = [check["verdict"] for check in shown]
    return Tally(verdicts.count("pass"), verdicts.count("warn"), verdicts.count("fail"))


def verdict(check: Row) -> str:
    """pass, warn or fail; only what is said to be a warning is one."""
    if check.get("is_success"):
        return "pass"
    return "warn" if check.get("severity") in ("warning", "info") else "fail"


def _shown(check: Row) -> dict[str, Any]:
    samples = _samples(check.get("samples"))
    return {
        "gate": str(check.get("gate") or ""),
        "suite": str(check.get("suite") or ""),
        **_title(str(check.get("expectation") or ""), check.get("column_name")),
        "severity": check.get("severity") or "critical",
        "verdict": verdict(check),
        "observed": check.get("observed_value"),
        "count_elements": check.get("count_elements"),
        "count_unexpected": check.get("count_unexpected"),
        "allowed": check.get("allowed") or "",
        "notes": check.get("notes") or "",
        "samples": samples,
        "sample_columns": list(dict.fromkeys(name for row in samples for name in row)),
        "run_id": check.get("run_id") or "",
        "checked_at": check.get("checked_at"),
    }


def _title(expectation: str, column: str | None) -> dict[str, str]:
    """`rule` in words, and `column`. A measure is its own rule: what it measures says more than that it is bounded."""
    if expectation == "expect_measure_to_be_between" and column:
        return {
            "rule": column.removesuffix("_pct").replace("_", " ") + (" %" if column.endswith("_pct") else ""),
            "column": "",
        }
    return {"rule": expectation.removeprefix("expect_").replace("_", " "), "column": column or ""}


def _samples(value: object) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    return [dict(row) for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def _grouped(checks: Iterable[dict[str, Any]], name: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """In the order of the rows; rows of one group that lie apart are brought together."""
    order = {value: place for place, value in reversed(list(enumerate(check[name] for check in checks)))}
    together = sorted(checks, key=lambda check: order[check[name]])
    return [(value, list(rows)) for value, rows in groupby(together, key=lambda check: str(check[name]))]
