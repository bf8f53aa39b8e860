"""The small world's data and its model: files of people, and in plain Python what the marts must then hold."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests import fault_server

COLUMNS = ("id", "name", "team", "amount", "at")
TEAMS = ("red", "blue", "green", "black")
# person, name, team, changed_at, amount
Person = tuple[str, str | None, str | None, str | None, int | None]
# source, location, line, id
Place = tuple[str, str, int, str]


@dataclass(frozen=True)
class Line:
    """A line of a file: a record, or where `text` is given one that no record can be read from."""

    number: int
    name: str = ""
    team: str = ""
    amount: str = ""
    at: str = ""
    text: str = ""

    @property
    def values(self) -> dict[str, str]:
        """By column."""
        return {
            "id": str(self.number),
            "name": self.name,
            "team": self.team,
            "amount": self.amount,
            "at": self.at,
            "note": "noted",
        }

    @property
    def is_good(self) -> bool:
        """Whether the models accept it, as far as it alone says."""
        return not self.text and self.amount.isdigit()


@dataclass
class Files:
    """What lies in the inbox, by name. A `.csv` is of hr, an `.ndjson` of lab."""

    lines: dict[str, list[Line]] = field(default_factory=dict)
    # Removed from the inbox after they were read: they stay in raw.
    removed: set[str] = field(default_factory=set)
    # The header of a CSV file, where it is another one.
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def write(self, inbox: Path, name: str) -> None:
        """Write one file as it is now."""
        inbox.mkdir(parents=True, exist_ok=True)
        (inbox / name).write_bytes(self.content(name))

    def content(self, name: str) -> bytes:
        """The bytes of one file."""
        if name.endswith(".csv"):
            columns = self.columns.get(name, COLUMNS)
            rows = [line.text or ",".join(line.values[column] for column in columns) for line in self.lines[name]]
            return "\n".join([",".join(columns), *rows, ""]).encode()
        return "".join((line.text or _record(line)) + "\n" for line in self.lines[name]).encode()


def _record(line: Line) -> str:
    values = {"id": line.number, "name": line.name, "team": line.team, "amount": line.amount, "at": line.at}
    return json.dumps(values, ensure_ascii=False)


def _source(name: str) -> str:
    return "hr__people" if name.endswith(".csv") else "lab__people"


def people(files: Files, *, with_api: bool = True) -> list[Person]:
    """The mart people."""
    newest: dict[str, tuple[tuple[str, str, int], Person]] = {}
    for name, lines in files.lines.items():
        for place, line in enumerate(lines, start=2 if name.endswith(".csv") else 1):
            if not line.is_good:
                continue
            person = f"{_source(name)}-{line.number}"
            rank = (line.at, f"inbox/{name}", place)
            if person not in newest or rank > newest[person][0]:
                newest[person] = (rank, (person, line.name, line.team, line.at, int(line.amount)))
    found = [person for _, person in newest.values()]
    if with_api:
        count = fault_server.PAGE_SIZE * (fault_server.LAST_PAGE - 1) + 1
        found += [(f"web__people-{number}", "José", None, None, None) for number in range(count)]
    return sorted(found)


def teams(persons: list[Person]) -> list[tuple[str, int, int]]:
    """The mart teams."""
    found: dict[str, list[int]] = {}
    for _, _, team, _, amount in persons:
        entry = found.setdefault(team or "", [0, 0])
        entry[0] += 1
        entry[1] += amount or 0
    return sorted((team, *entry) for team, entry in found.items())  # type: ignore[misc]


def records(files: Files) -> list[Place]:
    """Every record that was read from the files as they are, good or rejected: where it stands, and its id."""
    return sorted(
        (_source(name), f"inbox/{name}", place, str(line.number))
        for name, lines in files.lines.items()
        for place, line in enumerate(lines, start=2 if name.endswith(".csv") else 1)
        if not line.text
    )


def letters(files: Files) -> list[Place]:
    """Every line that no record can be read from: where it stands, and its text."""
    return sorted(
        (_source(name), f"inbox/{name}", place, line.text)
        for name, lines in files.lines.items()
        for place, line in enumerate(lines, start=2 if name.endswith(".csv") else 1)
        if line.text
    )


def make_lines(chance: random.Random, count: int, ids: int, day: int, suffix: str) -> list[Line]:
    """So many lines; one of 40 is broken, one of 40 has an amount that is no number."""
    made = []
    for _ in range(count):
        number = chance.randrange(ids)
        broken = chance.random()
        at = f"2026-01-{1 + day:02d}T{chance.randrange(24):02d}:00:00Z"
        if broken < 0.025:
            text = f"{number},broken" if suffix == ".csv" else f'{{"id": {number}, "name": '
            made.append(Line(number, text=text))
        else:
            amount = "many" if broken < 0.05 else str(chance.randrange(1000))
            made.append(Line(number, f"person {number} näme", chance.choice(TEAMS), amount, at))
    return made


def first_files(chance: random.Random, size: int = 120) -> Files:
    """What lies in the inbox at the first run."""
    return Files(
        {
            "hr_1.csv": make_lines(chance, size, size, 1, ".csv"),
            "hr_2.csv": make_lines(chance, size // 2, size, 2, ".csv"),
            "lab_1.ndjson": make_lines(chance, size, size, 1, ".ndjson"),
        }
    )


def next_files(files: Files, chance: random.Random, size: int = 120) -> Files:
    """What lies there at the next: a file that grew, one written anew, two that came."""
    lines = {name: list(held) for name, held in files.lines.items()}
    lines["hr_1.csv"] += make_lines(chance, size // 3, size * 2, 3, ".csv")
    lines["lab_1.ndjson"] = make_lines(chance, size, size, 3, ".ndjson")
    lines["hr_3.csv"] = make_lines(chance, size // 2, size, 4, ".csv")
    lines["lab_2.ndjson"] = make_lines(chance, size // 2, size, 4, ".ndjson")
    return Files(lines)
