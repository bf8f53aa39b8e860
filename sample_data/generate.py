"""Write the sample data, byte for byte the same each time: `python -m sample_data.generate [--seed N] [--out DIR]`.

Beside the inputs it writes expected.json: what the generator put into each file, counted while it did so.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sample_data import shop
from sample_data.defects import EMAIL_NOT_UNIQUE, Defect, deal_defects, every_field_wrong, next_but_id, several_defects
from sample_data.malformed import Malformed, csv_line, malformed_csv, malformed_items, malformed_ndjson
from sample_data.people import LAST_DAY, Dice, Person, earlier_version, invent_people
from sample_data.spellings import spell_instant, spell_person

SEED = 2026
FOLDER = Path(__file__).parent / "employees"

Outcome = Literal["accepted", "duplicate", "rejected"]
Format = Literal["csv", "array", "lines"]

_COLUMNS = ("id", "name", "email", "age", "department", "salary", "joinDate", "isActive", "metadata", "updatedAt")


@dataclass(frozen=True)
class SampleFile:
    """One input: `count_records` lines or items, of which the named numbers are rejected by a rule or malformed."""

    name: str
    source: str
    format: Format
    count_records: int
    count_rejected: int
    malformed: tuple[Malformed, ...]
    columns: tuple[str, ...] = ()
    unknown_field: str = ""
    count_blank: int = 0

    @property
    def kind(self) -> str:
        """How values are written: csv (all text) or json (typed)."""
        return "csv" if self.format == "csv" else "json"


# The extra column stands in the middle: who maps columns by position reads nonsense.
_DRIFTED = (*_COLUMNS[:8], "badge", *_COLUMNS[8:])

FILES = (
    SampleFile(
        "hr_2025.csv", "hr__employees", "csv", 1500, 60, tuple(malformed_csv(_COLUMNS, has_hidden=True)), _COLUMNS,
        count_blank=2,
    ),
    SampleFile(
        "hr_2026.csv", "hr__employees", "csv", 1000, 42, tuple(malformed_csv(_DRIFTED, has_hidden=False)), _DRIFTED,
        unknown_field="badge", count_blank=1,
    ),
    SampleFile(
        "payroll.json", "payroll__employees", "array", 700, 28,
        tuple(malformed_items("700 records", ["10001", "Ann Bell"])), unknown_field="costCentre",
    ),
    SampleFile(
        "directory.ndjson", "directory__employees", "lines", 500, 20, tuple(malformed_ndjson()), unknown_field="desk",
    ),
    SampleFile(
        "talent.json", "talent__employees", "array", 600, 24,
        tuple(malformed_items("moved to payroll", 42, None)), unknown_field="reviews",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One version of a person: the file it is in, its rank in time (None: no updatedAt), what becomes of it."""

    file: str
    rank: int | None
    outcome: Outcome
    copies: int = 1


@dataclass(frozen=True)
class Scenario:
    """Versions of one person in several places. The last step is the person as of now, those before it are older."""

    name: str
    count: int
    steps: tuple[Step, ...]


def _accepted(file: str, rank: int | None = None) -> Step:
    return Step(file, rank, "accepted")


def _duplicate(file: str, rank: int | None = None) -> Step:
    return Step(file, rank, "duplicate")


def _rejected(file: str, rank: int | None = None) -> Step:
    return Step(file, rank, "rejected")


_HR_2025, _HR_2026, _PAYROLL, _DIRECTORY, _TALENT = (file.name for file in FILES)

SCENARIOS = (
    # The newest by the record's own time wins, wherever it is.
    Scenario("newer_elsewhere", 80, (_duplicate(_HR_2025, 1), _accepted(_HR_2026, 2))),
    Scenario("newer_elsewhere", 55, (_duplicate(_HR_2025, 1), _accepted(_PAYROLL, 2))),
    Scenario("newer_elsewhere", 40, (_duplicate(_PAYROLL, 1), _accepted(_TALENT, 2))),
    Scenario("newer_elsewhere", 30, (_duplicate(_DIRECTORY, 1), _accepted(_HR_2026, 2))),
    Scenario("newer_elsewhere", 35, (_duplicate(_TALENT, 1), _accepted(_DIRECTORY, 2))),
    Scenario("newer_elsewhere", 25, (_duplicate(_HR_2025, 1), _accepted(_TALENT, 2))),
    Scenario("newer_in_the_same_file", 15, (_duplicate(_HR_2026, 1), _accepted(_HR_2026, 2))),
    # A record with a time of its own beats one without, whatever the source.
    Scenario("dated_beats_undated", 35, (_duplicate(_HR_2025), _accepted(_PAYROLL, 1))),
    Scenario("dated_beats_undated", 20, (_duplicate(_DIRECTORY), _accepted(_TALENT, 1))),
    # No time, one run: the source decides, then the later file.
    Scenario("source_priority", 35, (_duplicate(_PAYROLL), _accepted(_HR_2026))),
    Scenario("source_priority", 25, (_duplicate(_DIRECTORY), _accepted(_PAYROLL))),
    Scenario("source_priority", 25, (_duplicate(_TALENT), _accepted(_DIRECTORY))),
    Scenario("same_instant", 15, (_duplicate(_DIRECTORY, 1), _accepted(_HR_2026, 1))),
    Scenario("same_instant", 15, (_duplicate(_TALENT, 1), _accepted(_PAYROLL, 1))),
    Scenario("later_file", 60, (_duplicate(_HR_2025), _accepted(_HR_2026))),
    Scenario("three_sources", 25, (_duplicate(_HR_2025, 1), _duplicate(_PAYROLL, 2), _accepted(_TALENT, 3))),
    Scenario("three_sources", 15, (_duplicate(_DIRECTORY), _duplicate(_TALENT, 1), _accepted(_HR_2026, 2))),
    # The same bytes twice in one file: one of the two is a duplicate, and it makes no difference which.
    Scenario("repeated_line", 18, (Step(_HR_2025, 1, "accepted", copies=2),)),
    Scenario("repeated_line", 12, (Step(_HR_2026, None, "accepted", copies=2),)),
    Scenario("repeated_line", 8, (Step(_PAYROLL, 1, "accepted", copies=2),)),
    Scenario("repeated_line", 8, (Step(_DIRECTORY, None, "accepted", copies=2),)),
    Scenario("repeated_line", 8, (Step(_TALENT, 1, "accepted", copies=3),)),
    # A newest version that breaks a rule does not take the older, valid one with it.
    Scenario("invalid_newest", 6, (_accepted(_HR_2025, 1), _rejected(_HR_2026, 2))),
    Scenario("invalid_newest", 4, (_accepted(_HR_2025), _rejected(_PAYROLL, 1))),
    Scenario("invalid_newest", 3, (_accepted(_PAYROLL, 1), _rejected(_TALENT, 2))),
    Scenario("invalid_newest", 3, (_accepted(_HR_2026), _rejected(_DIRECTORY, 1))),
    Scenario("invalid_oldest", 4, (_rejected(_HR_2025, 1), _accepted(_PAYROLL, 2))),
)

# Files in which several people claim one e-mail address: the first keeps it. Two in one file: the earlier line.
_SHARED_EMAILS = (
    (_HR_2025, _HR_2026),
    (_HR_2025, _HR_2026),
    (_HR_2025, _PAYROLL),
    (_HR_2025, _TALENT),
    (_PAYROLL, _DIRECTORY),
    (_PAYROLL, _TALENT),
    (_DIRECTORY, _TALENT),
    (_HR_2026, _DIRECTORY, _TALENT),
    (_HR_2025, _HR_2025),
)

# Valid values at the very edge of a rule, and the names that every reader must survive.
_EDGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("name_mixed", {"name": "mary-ann o'neil"}),
    ("name_mixed", {"name": "McDonald McDonald"}),
    ("name_mixed", {"name": "ludwig van der Berg"}),
    ("name_emoji", {"name": "Sam Rivers 🚀"}),
    ("name_emoji", {"name": "Zoë 🌱 hale"}),
    ("name_combining_accent", {"name": "rene\u0301e dupont"}),
    ("name_combining_accent", {"name": "Zoe\u0308 Lindstro\u0308m"}),
    ("name_of_two_letters", {"name": "Bo"}),
    ("name_of_two_letters", {"name": "李娜"}),
    ("name_of_100_letters", {"name": "Anna-" * 19 + "Maria"}),
    ("age_at_edge", {"age": 16}),
    ("age_at_edge", {"age": 100}),
    ("salary_at_edge", {"salary_cents": 1}),
    ("salary_at_edge", {"salary_cents": 100_000_000}),
    ("salary_at_grade", {"salary_cents": 4_999_999}),
    ("salary_at_grade", {"salary_cents": 5_000_000}),
    ("salary_at_grade", {"salary_cents": 7_999_999}),
    ("salary_at_grade", {"salary_cents": 8_000_000}),
    ("salary_at_grade", {"salary_cents": 11_999_999}),
    ("salary_at_grade", {"salary_cents": 12_000_000}),
    ("join_date_leap_day", {"joined": date(2020, 2, 29)}),
    ("join_date_leap_day", {"joined": date(2024, 2, 29)}),
    ("join_date_last_day", {"joined": LAST_DAY}),
)


@dataclass
class _Line:
    """One line or item: its text, and what the generator knows about it; a blank line holds no record."""

    text: bytes
    outcome: Outcome | None = None
    id: str | None = None
    rules: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    malformed: str = ""
    is_last: bool = False
    is_blank: bool = False


class _Plan:
    """The records of all files as they come to be; the state is the dice and what has been put where."""

    def __init__(self, seed: int) -> None:
        self.dice = Dice(seed)
        self.people = invent_people(self.dice)
        self.files = {file.name: file for file in FILES}
        self.lines: dict[str, list[_Line]] = {file.name: [] for file in FILES}
        self.deals = {kind: deal_defects(self.dice, kind) for kind in ("csv", "json")}
        self.scenarios: Counter[str] = Counter()
        self.ordered: list[tuple[str, _Line, _Line]] = []

    def add(
        self,
        file: SampleFile,
        person: Person,
        outcome: Outcome,
        *,
        instant: datetime | None = None,
        is_alone: bool = False,
        defects: Sequence[Defect] = (),
        rules: Sequence[str] = (),
        oddities: Sequence[str] = (),
    ) -> _Line:
        """Write one record of `person` (`is_alone`: the only one) into `file`, spoiled by `defects`; give its line."""
        fields, spelled = spell_person(self.dice, person, is_json=file.kind == "json")
        spelled += oddities
        if instant is not None:
            fields["updatedAt"], oddity = spell_instant(self.dice, instant, may_be_naive=is_alone)
            spelled += [oddity] if oddity else []
        if file.unknown_field and self.dice.chance(60):
            fields[file.unknown_field] = _unknown_value(self.dice, file.unknown_field)
            spelled.append("unknown_field")
        for defect in defects:
            defect.spoil(fields)
        line = _Line(
            _render(self.dice, file, fields),
            outcome,
            person.id if fields.get("id") else None,
            sorted({*(defect.rule for defect in defects), *rules}),
            [defect.name for defect in defects],
            spelled,
        )
        self.lines[file.name].append(line)
        return line

    def play(self, scenario: Scenario) -> None:
        """Add the records of one person who lives through `scenario`."""
        person = next(self.people)
        versions = [person]
        for _ in scenario.steps[1:]:
            versions.insert(0, earlier_version(self.dice, versions[0]))
        start = datetime(2023, 1, 1) + timedelta(minutes=self.dice.below(500_000))
        # Three days at least lie between two versions: no reading of the offsets can change their order.
        waits = [timedelta(days=self.dice.between(3, 300), minutes=self.dice.below(1440)) for _ in scenario.steps]
        for step, version in zip(scenario.steps, versions, strict=True):
            instant = None if step.rank is None else start + sum(waits[: step.rank - 1], timedelta())
            file = self.files[step.file]
            defects = (next_but_id(self.deals[file.kind]),) if step.outcome == "rejected" else ()
            line = self.add(file, version, step.outcome, instant=instant, defects=defects)
            for _ in range(step.copies - 1):
                self.lines[file.name].append(replace(line, outcome="duplicate"))
        self.scenarios[scenario.name] += 1

    def share_email(self, names: Sequence[str]) -> None:
        """Add one person to each of the files, all with the e-mail address of the first, who keeps it."""
        holder = next(self.people)
        first = self.add(self.files[names[0]], holder, "accepted")
        for name in names[1:]:
            other = replace(next(self.people), email=holder.email)
            line = self.add(self.files[name], other, "rejected", rules=[EMAIL_NOT_UNIQUE])
            if name == names[0]:
                self.ordered.append((name, first, line))
        self.scenarios["shared_email"] += 1

    def take_email(self) -> None:
        """Add a person whose newer version claims another's e-mail address: the older version stays."""
        holder, taker = next(self.people), next(self.people)
        self.add(self.files[_HR_2025], holder, "accepted")
        self.add(self.files[_TALENT], taker, "accepted", instant=datetime(2024, 5, 6, 7, 8, 9))
        taken = replace(taker, email=holder.email)
        self.add(
            self.files[_TALENT], taken, "rejected", instant=datetime(2025, 6, 7, 8, 9, 10), rules=[EMAIL_NOT_UNIQUE]
        )
        self.scenarios["taken_email"] += 1

    def fill(self, file: SampleFile) -> None:
        """Bring `file` up to its numbers with people who are in no other file, and break its lines."""
        lines = self.lines[file.name]
        rejected = file.count_rejected - sum(line.outcome == "rejected" for line in lines)
        for number in range(rejected):
            self.add(file, next(self.people), "rejected", defects=self._defects(file.kind, number))
        edges = list(_EDGES)
        while len(lines) < file.count_records - len(file.malformed):
            person, oddities = next(self.people), []
            if edges:
                oddity, changes = edges.pop()
                person, oddities = replace(person, **changes), [oddity]
            instant = self._some_instant() if self.dice.chance(35) else None
            self.add(file, person, "accepted", instant=instant, is_alone=True, oddities=oddities)
            self.scenarios["alone"] += 1
        lines += [_Line(broken.text, malformed=broken.kind, is_last=broken.is_last) for broken in file.malformed]
        lines += [_Line(b"", is_blank=True) for _ in range(file.count_blank)]

    def _defects(self, kind: str, number: int) -> tuple[Defect, ...]:
        if number == 0:
            return every_field_wrong(kind)
        return several_defects(self.dice, kind) if number % 6 == 0 else (next(self.deals[kind]),)

    def _some_instant(self) -> datetime:
        return datetime(2023, 1, 1) + timedelta(seconds=self.dice.below(3 * 365 * 86_400))

    def arrange(self) -> None:
        """Shuffle every file, then put the lines right whose place matters."""
        for file in FILES:
            lines = self.lines[file.name]
            self.dice.shuffle(lines)
            lines.sort(key=lambda line: line.is_last)
        for name, first, second in self.ordered:
            lines = self.lines[name]
            here, there = (_place(lines, line) for line in (first, second))
            if there < here:
                lines[here], lines[there] = lines[there], lines[here]


def _place(lines: Sequence[_Line], wanted: _Line) -> int:
    return next(place for place, line in enumerate(lines) if line is wanted)


def _unknown_value(dice: Dice, name: str) -> object:
    number = dice.between(100, 999)
    return {
        "badge": f"B-{number}" if number % 7 else f"B-{number}, spare",
        "costCentre": number,
        "desk": f"{number // 100}.{number % 100}",
        "reviews": [{"year": 2025, "score": number % 5}],
    }[name]


def _render(dice: Dice, file: SampleFile, fields: dict[str, Any]) -> bytes:
    if file.format == "csv":
        return csv_line([fields.get(column) for column in file.columns], quote_all=dice.chance(3)).encode()
    is_ascii = dice.chance(10)
    separators = (",", ":") if dice.chance(10) else (", ", ": ")
    return json.dumps(fields, ensure_ascii=is_ascii, separators=separators).encode()


def _file_bytes(file: SampleFile, lines: Iterable[_Line]) -> bytes:
    texts = [line.text for line in lines]
    if file.format == "array":
        return b"[\n" + b",\n".join(b"  " + text for text in texts) + b"\n]\n"
    header = [",".join(file.columns).encode()] if file.columns else []
    return b"".join(text + b"\n" for text in header + texts)


def _expected_file(file: SampleFile, lines: Sequence[_Line]) -> dict[str, Any]:
    first = 2 if file.columns else 1  # the header is line 1
    numbered = list(enumerate(lines, start=first))
    return {
        "source": file.source,
        "format": file.format,
        **_books(lines),
        "dead_letters": [{"line": number, "kind": line.malformed} for number, line in numbered if line.malformed],
        "blank_lines": [number for number, line in numbered if line.is_blank],
        "rejected_records": [
            {"line": number, "id": line.id, "rules": line.rules, "defects": line.defects}
            for number, line in numbered
            if line.outcome == "rejected"
        ],
        "rules": _count(rule for line in lines for rule in line.rules),
        "oddities": _count(oddity for line in lines if line.outcome != "rejected" for oddity in line.oddities),
    }


def _books(lines: Sequence[_Line]) -> dict[str, int]:
    """Counts that balance: read = loaded + dead_lettered + skipped, loaded = accepted + duplicate + rejected."""
    outcomes = Counter(line.outcome for line in lines)
    dead_lettered = sum(bool(line.malformed) for line in lines)
    skipped = sum(line.is_blank for line in lines)
    return {
        "read": len(lines),
        "loaded": len(lines) - dead_lettered - skipped,
        "dead_lettered": dead_lettered,
        "skipped": skipped,
        "accepted": outcomes["accepted"],
        "duplicate": outcomes["duplicate"],
        "rejected": outcomes["rejected"],
    }


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _expected(plan: _Plan, seed: int) -> dict[str, Any]:
    everything = [line for lines in plan.lines.values() for line in lines]
    sources = dict.fromkeys(file.source for file in FILES)
    return {
        "seed": seed,
        # Every join date that counts as valid is before this day, the others are in 2999.
        "valid_for_as_of_from": (LAST_DAY + timedelta(days=1)).isoformat(),
        "totals": _books(everything),
        "sources": {
            source: _books([line for file in FILES if file.source == source for line in plan.lines[file.name]])
            for source in sources
        },
        "rules": _count(rule for line in everything for rule in line.rules),
        "defects": _count(defect for line in everything for defect in line.defects),
        "scenarios": dict(sorted(plan.scenarios.items())),
        "files": {file.name: _expected_file(file, plan.lines[file.name]) for file in FILES},
    }


def _pretty(value: object, indent: str = "") -> str:
    """JSON with short values on one line, so that a change of one record is a change of one line."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + len(flat) <= 118:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {_pretty(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + _pretty(item, inner) for item in value) + f"\n{indent}]"


def generate(seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of every sample file, expected.json last."""
    plan = _Plan(seed)
    for scenario in SCENARIOS:
        for _ in range(scenario.count):
            plan.play(scenario)
    for names in _SHARED_EMAILS:
        plan.share_email(names)
    for _ in range(2):
        plan.take_email()
    for file in FILES:
        plan.fill(file)
    plan.arrange()
    for file in FILES:
        yield file.name, _file_bytes(file, plan.lines[file.name])
    yield "expected.json", (_pretty(_expected(plan, seed)) + "\n").encode()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sample data into the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m sample_data.generate", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help=f"another seed, other people (default {SEED})")
    parser.add_argument("--out", type=Path, help="folder for employees alone (default: all, in place)")
    options = parser.parse_args(arguments)
    made = {options.out: generate} if options.out else {FOLDER: generate, shop.FOLDER: shop.generate}
    for folder, files in made.items():
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files(options.seed):
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
