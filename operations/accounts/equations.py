"""The books as equations: those of a source, of a candidate mart and of a published one, and what does not add up."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

# Under which the equations stand among the results of the gates: those before publishing, and that after it.
GATE = "books"
GATE_AFTER = "published"


@dataclass(frozen=True)
class SourceBook:
    """The books of one source, or of one partition of it."""

    source: str
    records_read: int = 0
    records_loaded: int = 0
    records_dead_lettered: int = 0
    records_skipped: int = 0
    count_accepted: int = 0
    count_duplicate: int = 0
    count_rejected: int = 0
    # Its entry is gone from penstock.yml and no outcomes model knows it: nobody waits for it, so it holds no release.
    is_abandoned: bool = False
    partition: str = ""
    checksum_loaded: int = field(default=0, compare=False)
    checksum_dead_lettered: int = field(default=0, compare=False)
    checksum_judged: int = field(default=0, compare=False)
    # Of books that were added up: what does not add up in one of them, whatever the sums say.
    gap_within: str = ""

    @property
    def name(self) -> str:
        """Of the source, and of its partition where it has some."""
        return f"{self.source}, partition {self.partition}" if self.partition else self.source

    @property
    def count_judged(self) -> int:
        """Records that the models gave an outcome."""
        return self.count_accepted + self.count_duplicate + self.count_rejected

    @property
    def farewell(self) -> str:
        """What becomes of the records of a source that is abandoned."""
        records = "1 record stays" if self.records_loaded == 1 else f"{self.records_loaded:,} records stay"
        where = "is in no mart" if self.records_loaded == 1 else "are in no mart"
        return f"{self.source} is not in penstock.yml any more; its {records} in raw and {where}"

    @property
    def is_balanced(self) -> bool:
        """Whether both equations hold."""
        return not self.gap

    @property
    def gap(self) -> str:
        """What does not add up, or nothing."""
        return "" if self.is_abandoned else self.gap_within or self.gap_landing or self.gap_judging

    @property
    def gap_landing(self) -> str:
        """What is wrong with read = loaded + dead-lettered + skipped."""
        went_on = self.records_loaded + self.records_dead_lettered + self.records_skipped
        if self.records_read != went_on:
            return f"{self.name}: {self.records_read:,} read, but {went_on:,} loaded, dead-lettered or skipped"
        return ""

    @property
    def gap_judging(self) -> str:
        """What is wrong with loaded = accepted + duplicate + rejected."""
        if self.records_loaded and not self.count_judged:
            return f"{self.name}: {self.records_loaded:,} loaded, but no outcomes model counts them"
        if self.records_loaded != self.count_judged:
            return f"{self.name}: {self.records_loaded:,} loaded, but {self.count_judged:,} have an outcome"
        if self.checksum_loaded != self.checksum_judged:
            return f"{self.name}: {self.records_loaded:,} loaded and as many have an outcome, but other records do"
        return ""


@dataclass(frozen=True)
class CandidateBook:
    """The books of one candidate mart: before + accepted - removed = its rows, where an outcomes model leads to it.

    `count_before` were accepted when books last balanced, `count_accepted` of the records since. `count_removed` of
    those before are not accepted any more: superseded, deleted, or broken by a later rule; less those that came back.
    `count_unknown` rows stand for what no record tells of, and are counted apart.
    """

    mart: str
    count_candidates: int
    checksum_candidates: int
    count_before: int | None = None
    count_accepted: int | None = None
    count_removed: int | None = None
    checksum_accepted: int | None = None
    checksum_keys: int | None = None
    count_unknown: int | None = None

    @property
    def is_derived(self) -> bool:
        """Whether no outcomes model leads to it."""
        return self.count_accepted is None

    @property
    def gap(self) -> str:
        """What does not add up, or nothing."""
        if self.count_before is None or self.count_accepted is None or self.count_removed is None:
            return ""
        due = self.count_before + self.count_accepted - self.count_removed
        rows = self.count_candidates - (self.count_unknown or 0)
        if due != rows:
            return (
                f"{self.mart}: {self.count_before:,} before + {self.count_accepted:,} accepted - "
                f"{self.count_removed:,} removed = {due:,}, but the mart has {rows:,} rows"
            )
        if self.checksum_accepted != self.checksum_keys:
            return f"{self.mart}: {due:,} records are accepted and as many are in the mart, but other ones"
        return ""

    @property
    def is_balanced(self) -> bool:
        """Whether the mart holds what was accepted and is not removed."""
        return not self.gap


@dataclass(frozen=True)
class MartBook:
    """The books of one mart: candidates = published. `measures` are those that publishing verified and noted."""

    mart: str
    count_candidates: int
    count_published: int
    release_id: int | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gap(self) -> str:
        """What does not add up, or nothing."""
        if self.count_candidates == self.count_published:
            return ""
        return f"{self.mart}: {self.count_candidates:,} candidates, but {self.count_published:,} published"

    @property
    def is_balanced(self) -> bool:
        """Whether readers get what the gate passed."""
        return not self.gap


def checks(books: Iterable[SourceBook | CandidateBook | MartBook]) -> list[dict[str, Any]]:
    """The equations as rows of ops.gate_results, all of them critical."""
    return [check for book in books for check in _checks(book)]


def added_up(books: Sequence[SourceBook]) -> SourceBook:
    """The books of a source from those of its partitions, which are at least one."""
    names = [each.name for each in fields(SourceBook) if each.name.startswith(("records_", "count_", "checksum_"))]
    sums = {name: sum(getattr(book, name) for book in books) for name in names}
    gap = next((book.gap for book in books if book.partition and book.gap), "")
    return replace(books[0], partition="", gap_within=gap, **sums)


def _checks(book: SourceBook | CandidateBook | MartBook) -> Iterator[dict[str, Any]]:
    if isinstance(book, MartBook):
        yield _check(book.mart, "published_is_candidate", book.count_published, book.count_candidates, book.gap)
    elif isinstance(book, CandidateBook):
        if not book.is_derived:
            due = f"{book.count_before:,} + {book.count_accepted:,} - {book.count_removed:,}"
            yield _check(book.mart, "before_accepted_less_removed", book.count_candidates, due, book.gap)
    elif not book.is_abandoned:
        landed = f"{book.records_loaded:,} + {book.records_dead_lettered:,} + {book.records_skipped:,}"
        judged = f"{book.count_accepted:,} + {book.count_duplicate:,} + {book.count_rejected:,}"
        yield _check(book.source, "read_is_landed", landed, book.records_read, book.gap_landing, book.partition)
        yield _check(book.source, "loaded_is_judged", judged, book.records_loaded, book.gap_judging, book.partition)


def _check(
    suite: str, equation: str, observed: int | str, allowed: int | str, gap: str, partition: str = ""
) -> dict[str, Any]:
    told = {
        "read_is_landed": "Read = loaded + dead-lettered + skipped.",
        "loaded_is_judged": "Loaded = accepted + duplicate + rejected, and they are the same records.",
        "before_accepted_less_removed": "What stood before + accepted - removed = rows, and they are the same keys.",
        "published_is_candidate": "Readers get what the gate passed.",
    }
    observed, allowed = (f"{value:,}" if isinstance(value, int) else value for value in (observed, allowed))
    return {
        "gate": GATE_AFTER if equation == "published_is_candidate" else GATE,
        "suite": suite,
        "expectation": equation,
        "column_name": partition or None,
        "severity": "critical",
        "is_success": not gap,
        "observed_value": observed,
        "allowed": allowed,
        "count_elements": None,
        "count_unexpected": None,
        "samples": [],
        "notes": gap or told[equation],
    }
