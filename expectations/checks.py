"""What judging one table gave: checks of plain text and bounded size, read out of Great Expectations' results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations.expectation import Expectation

MAX_SAMPLES = 5
_MAX_FIELDS = 12
_MAX_TEXT = 200
_MAX_REASON = 500


@dataclass(frozen=True)
class Check:
    """One expectation, judged. Everything in it is plain text or JSON, and what it shows of rows of bounded size."""

    gate: str
    suite: str
    expectation: str
    column: str | None  # or the name of a measure
    severity: str  # "critical" closes the gate when it fails, "warning" is reported
    is_success: bool
    observed_value: str | None
    allowed: str
    count_elements: int | None = None
    count_unexpected: int | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    notes: str = ""
    rows_query: str | None = None  # SQL for every row that failed, where the expectation can name them

    @property
    def is_critical(self) -> bool:
        """Whether its failure closes the gate; a severity that nobody knows does."""
        return self.severity not in ("warning", "info")


@dataclass(frozen=True)
class GateResult:
    """One gate, judged. It is open when no critical check failed."""

    gate: str
    is_open: bool
    checks: list[Check]
    run_id: str = ""
    checked_at: datetime | None = None

    @property
    def failures(self) -> list[Check]:
        """The checks that failed, those that closed the gate first."""
        return sorted((check for check in self.checks if not check.is_success), key=lambda check: not check.is_critical)


def explain(result: GateResult) -> list[str]:
    """One line for each failed check: where, what was observed, what is allowed, why, and some of the rows."""
    return [_explain(check) for check in result.failures]


def ledger_rows(result: GateResult) -> list[dict[str, Any]]:
    """The checks as rows for the ledger and the quality page: JSON-able, `column` under the name `column_name`."""
    stamp = {"run_id": result.run_id, "checked_at": result.checked_at.isoformat() if result.checked_at else None}
    return [{**stamp, **_renamed(asdict(check))} for check in result.checks]


def read_check(gate: str, suite: str, expected: "Expectation", result: "ExpectationValidationResult") -> Check:
    """What GX found for the expectation `expected`, whose exception, if it had one, is a critical failure."""
    config = result.expectation_config
    arguments = {**config.kwargs}
    column = arguments.get("column") or arguments.get("measure")
    raised = _raised(result.exception_info)
    if raised is not None:
        reason = f"could not be judged, so it counts as critical: {raised}"
        return broken(gate, suite, config.type, f"{reason} {_notes(expected)}".strip(), column)
    found: dict[str, Any] = result.to_json_dict()["result"]
    return Check(
        gate=gate,
        suite=suite,
        expectation=config.type,
        column=column,
        severity=str(getattr(expected.severity, "value", expected.severity)),
        is_success=bool(result.success),
        observed_value=_observed(found, result.result.get("observed_value")),
        allowed=_allowed(config.type, arguments),
        count_elements=found.get("element_count"),
        count_unexpected=_count_unexpected(config.type, found),
        samples=[] if result.success else _samples(found),
        notes=_notes(expected),
        rows_query=None if result.success else _rows_query(f"{gate}.{suite}", arguments, found),
    )


def broken(gate: str, suite: str, expectation: str, reason: str, column: str | None = None) -> Check:
    """A critical failure: something that could not be judged, and why."""
    return Check(
        gate=gate,
        suite=suite,
        expectation=expectation,
        column=column,
        severity="critical",
        is_success=False,
        observed_value=None,
        allowed="",
        notes=reason,
    )


def _explain(check: Check) -> str:
    parts = [f"{check.gate} gate, suite {check.suite}: {check.expectation}"]
    if check.column:
        parts.append(f"of {check.column}")
    if check.observed_value is not None:
        parts.append(f"is {check.observed_value}")
    else:
        parts.append("failed")
    if check.count_elements is not None and check.count_unexpected is not None:
        parts.append(f"({check.count_unexpected} of {check.count_elements} rows)")
    line = " ".join(parts)
    if check.allowed:
        line += f", allowed is {check.allowed}"
    line += f" ({check.severity})"
    if check.notes:
        line += f". {check.notes}"
    if check.samples:
        rows = "; ".join(", ".join(f"{name}={value}" for name, value in row.items()) for row in check.samples)
        line += f" Rows: {rows}"
    return " ".join(line.split())


def _renamed(check: dict[str, Any]) -> dict[str, Any]:
    return {("column_name" if name == "column" else name): value for name, value in check.items()}


def _notes(expected: "Expectation") -> str:
    notes = expected.notes or ""
    return notes if isinstance(notes, str) else " ".join(notes)


def _raised(exception_info: Mapping[str, Any] | None) -> str | None:
    """The reason of an exception inside an expectation, or None. GX nests one for each metric that failed."""
    if not exception_info:
        return None
    nested = [exception_info] if "raised_exception" in exception_info else list(exception_info.values())
    raised = [info for info in nested if info.get("raised_exception", True)]
    return _first_lines(str(raised[0].get("exception_message") or "an exception")) if raised else None


def reason_of(error: BaseException) -> str:
    """The exception in one bounded line."""
    return f"{type(error).__name__}: {_first_lines(str(error))}" if str(error) else type(error).__name__


def _first_lines(text: str) -> str:
    return _cut(" ".join(text.split()), _MAX_REASON)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _observed(found: Mapping[str, Any], value: object) -> str | None:
    """What GX observed, in words; `value` is what it says itself, before it was made JSON."""
    mismatched = (found.get("details") or {}).get("mismatched") or {}
    if mismatched.get("missing"):
        return _cut(f"missing {', '.join(mismatched['missing'])}", _MAX_REASON)
    if isinstance(value, list):  # a set of columns, of which more than asked for is right
        return "all there"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")  # in full: the next judgement compares with it
    if value is not None:
        return _cut(_plain(value), _MAX_REASON)
    if "unexpected_percent" in found:
        return f"{_plain(float(found['unexpected_percent'] or 0))}% unexpected"
    lists = {"missing": found.get("partial_missing_list"), "unexpected": found.get("partial_unexpected_list")}
    said = [f"{word} {', '.join(map(_plain, values))}" for word, values in lists.items() if values]
    if said:
        return _cut("; ".join(said), _MAX_REASON)
    return "all there" if any(values is not None for values in lists.values()) else None


def _count_unexpected(expectation: str, found: Mapping[str, Any]) -> int | None:
    count = (
        found.get("observed_value") if expectation == "unexpected_rows_expectation" else found.get("unexpected_count")
    )
    return None if count is None else int(count)


def _samples(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = found.get("partial_unexpected_index_list") or (found.get("details") or {}).get("unexpected_rows")
    if not rows:
        rows = [{"value": value} for value in found.get("partial_unexpected_list") or []]
    return [
        {_cut(str(name), 60): _bounded(value) for name, value in list(row.items())[:_MAX_FIELDS]}
        for row in rows[:MAX_SAMPLES]
    ]


def _rows_query(table: str, arguments: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """SQL for all rows that failed: what the expectation says, or GX of an expectation on values in rows with a key."""
    said = arguments.get("unexpected_rows_query") or arguments.get("rows_query")
    if said:
        return str(said).format(batch=table)
    query = found.get("unexpected_index_query")
    return str(query).rstrip("; \n") if query else None


def _bounded(value: object) -> str | int | float | None:
    if value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    return _cut(str(value), _MAX_TEXT)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)


def _allowed(expectation: str, arguments: Mapping[str, Any]) -> str:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    if low is not None and high is not None:
        text = f"{_bound(low)} to {_bound(high)}"
    elif low is not None:
        text = f"at least {_bound(low)}"
    elif high is not None:
        text = f"at most {_bound(high)}"
    elif "value_set" in arguments:
        text = ", ".join(map(_plain, arguments["value_set"]))
    elif "column_set" in arguments:
        text = f"columns {', '.join(map(_plain, arguments['column_set']))}"
    elif expectation == "unexpected_rows_expectation":
        text = "no such row"
    elif expectation == "expect_column_values_to_not_be_null":
        text = "not null"
    else:
        text = "any, kept for the next run" if expectation == "expect_measure_to_be_between" else ""
    mostly = arguments.get("mostly")
    if mostly is not None and mostly < 1:
        text = f"{text} in at least {_plain(100.0 * mostly)}% of rows".strip()
    return _cut(text, _MAX_REASON)


def _bound(value: object) -> str:
    return value.isoformat(sep=" ", timespec="seconds") if isinstance(value, datetime) else _plain(value)
