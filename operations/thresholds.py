"""Failure thresholds: from which share of failed records on a run warns, and from which on it publishes nothing.

A record failed that became a dead letter or was rejected by a rule. A source with a threshold of its own is judged by
itself, all the others together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from foundation.errors import GateError
from foundation.settings import Settings

GATE = "thresholds"
ALL = "all sources"
THE_OTHERS = "the other sources"


@dataclass(frozen=True)
class Share:
    """How many records of a source, or of several, failed since the last release, and how many may."""

    name: str
    key: str
    count_failed: int
    count_judged: int
    warning_percent: float
    stop_percent: float
    min_records: int

    @property
    def percent(self) -> float:
        """The share that failed; 0 where there are no records."""
        return 100.0 * self.count_failed / self.count_judged if self.count_judged else 0.0

    @property
    def verdict(self) -> Literal["pass", "warn", "stop"]:
        """What becomes of the run. Few records stop none: of two, one would be half."""
        if self.percent > self.stop_percent and self.count_judged >= self.min_records:
            return "stop"
        return "warn" if self.percent > min(self.warning_percent, self.stop_percent) else "pass"

    @property
    def line(self) -> str:
        """What failed, for people."""
        return (
            f"{self.percent:.1f}% of the records of {self.name} since the last release failed "
            f"({self.count_failed:,} of {self.count_judged:,})"
        )

    def as_dictionary(self) -> dict[str, Any]:
        """The share as the summary of a run tells it."""
        return {
            "of": self.name,
            "failed": self.count_failed,
            "judged": self.count_judged,
            "percent": round(self.percent, 3),
            "warning_percent": self.warning_percent,
            "stop_percent": self.stop_percent,
            "min_records": self.min_records,
            "verdict": self.verdict,
        }

    def as_check(self) -> dict[str, Any]:
        """The share as a row of ops.gate_results."""
        is_warning = self.verdict == "warn"
        return {
            "gate": GATE,
            "suite": self.name,
            "expectation": "expect_measure_to_be_between",
            "column_name": "failed_pct",
            "severity": "warning" if is_warning else "critical",
            "is_success": self.verdict == "pass",
            "observed_value": f"{self.percent:g}",
            "allowed": f"at most {self.warning_percent if is_warning else self.stop_percent:g}",
            "count_elements": self.count_judged,
            "count_unexpected": self.count_failed,
            "samples": [],
            "notes": f"{self.key}: beyond {self.warning_percent:g} it is a warning, beyond {self.stop_percent:g} "
            f"nothing is published, unless there are fewer than {self.min_records:,} records (failure_min_records).",
        }


def sources_apart(settings: Settings) -> list[str]:
    """The sources with a threshold of their own."""
    return [
        name
        for name, source in settings.sources.items()
        if source.failure_threshold_percent is not None or source.failure_warning_percent is not None
    ]


def judge_shares(settings: Settings, failed: Mapping[str, tuple[int, int]]) -> list[Share]:
    """The share of each source with a threshold of its own, and that of all others together.

    `failed` holds by source how many records failed, and of how many.
    """
    apart = sources_apart(settings)
    shares = []
    for name in apart:
        source = settings.sources[name]
        stop, warning = source.failure_threshold_percent, source.failure_warning_percent
        stop = settings.failure_threshold_percent if stop is None else stop
        key = f"sources.{name}.failure_threshold_percent {stop:g}"
        warning = stop / 2 if warning is None else warning
        shares.append(Share(name, key, *failed.get(name, (0, 0)), warning, stop, settings.failure_min_records))
    common = [counts for name, counts in failed.items() if name not in apart]
    together = Share(
        THE_OTHERS if apart else ALL,
        f"failure_threshold_percent {settings.failure_threshold_percent:g}",
        sum(count for count, _ in common),
        sum(count for _, count in common),
        settings.warning_percent,
        settings.failure_threshold_percent,
        settings.failure_min_records,
    )
    return [*shares, together]


def warnings(shares: Sequence[Share]) -> list[str]:
    """A line for each share beyond its warning level that stops nothing."""
    lines = []
    for share in shares:
        if share.verdict == "warn":
            is_spared = share.percent > share.stop_percent
            why = f"only {share.count_judged:,} records: they stop nothing" if is_spared else "nothing is stopped yet"
            lines.append(f"{share.line}; {why} ({share.key})")
    return lines


def stop_if_exceeded(shares: Sequence[Share]) -> None:
    """Raises GateError that names every share beyond its threshold."""
    if found := [share for share in shares if share.verdict == "stop"]:
        raise GateError(
            f"{'; '.join(share.line for share in found)}, nothing is published",
            where=", ".join(share.key for share in found),
            fix="penstock deadletters list shows them: mend the source, replay or discard them, or raise the limit",
        )
