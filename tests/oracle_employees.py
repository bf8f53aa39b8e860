"""What the pipeline should make of employee records, said a second time in plain Python and without its tools.

Slow and simple on purpose: tests compare the marts with it. Rules carry the name of the column they judge.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

PRIORITIES = {"hr__employees": 1, "payroll__employees": 2, "directory__employees": 3, "talent__employees": 4}
EMAIL_NOT_UNIQUE = "email_not_unique"

_ALIASES = {
    "eng": "Engineering",
    "dev": "Engineering",
    "engineering": "Engineering",
    "sales": "Sales",
    "mktg": "Marketing",
    "marketing": "Marketing",
    "hr": "HR",
    "human resources": "HR",
    "finance": "Finance",
    "accounting": "Finance",
}
_FLAGS = dict.fromkeys(("true", "1", "yes", "active"), True) | dict.fromkeys(("false", "0", "no", "inactive"), False)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATES = (
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:T\d\d:\d\d:\d\d(?:\.\d+)?Z?)?",
    r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)",
    r"(?P<day>\d\d?) (?P<month_name>[A-Za-z]{3}) (?P<year>\d{4})",
    # A day above 12 cannot be a month; below, the two have two readings.
    r"(?P<day>1[3-9]|2\d|3[01])/(?P<month>\d\d)/(?P<year>\d{4})",
)


@dataclass(frozen=True)
class Record:
    """One record as its source wrote it, and where; `loaded` grows from run to run."""

    source: str
    location: str
    line: int
    fields: Mapping[str, Any]
    loaded: int = 0


@dataclass
class Reading:
    """All that a file held: records, the lines (items) that are none, and blank lines."""

    records: list[Record] = field(default_factory=list)
    dead_lines: list[int] = field(default_factory=list)
    blank_lines: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Employee:
    """The clean values of a record; None where one is missing or cannot be read."""

    id: str | None
    name: str | None
    email: str | None
    age: int | None
    department: str | None
    salary: Decimal | None
    join_date: date | None
    is_active: bool | None
    metadata: Any
    updated_at: datetime | None


@dataclass(frozen=True)
class Verdict:
    """What becomes of a record: accepted, duplicate or rejected, the latter with every rule it breaks."""

    record: Record
    employee: Employee
    outcome: str
    failed_rules: tuple[str, ...] = ()


def read(path: Path, source: str, *, loaded: int = 0) -> Reading:
    """Everything in the CSV, JSON or NDJSON file at `path`. No CSV record may span two lines."""
    reading = Reading()
    read_lines = {".csv": _csv_records, ".json": _array_records, ".ndjson": _lines_records}[path.suffix]
    for line, fields in read_lines(path.read_bytes()):
        if fields is None:
            reading.dead_lines.append(line)
        elif fields == "":
            reading.blank_lines.append(line)
        else:
            reading.records.append(Record(source, path.name, line, fields, loaded))
    return reading


def normalise(fields: Mapping[str, Any]) -> Employee:
    """The clean values of a record's fields."""
    email = _text(fields.get("email"))
    return Employee(
        id=_text(fields.get("id")),
        name=normalise_name(_text(fields.get("name")) or ""),
        email=email.strip().lower() if email else None,
        age=read_whole(_text(fields.get("age"))),
        department=_ALIASES.get((_text(fields.get("department")) or "").strip().lower()),
        salary=read_money(_text(fields.get("salary"))),
        join_date=read_date(_text(fields.get("joinDate"))),
        is_active=_FLAGS.get((_text(fields.get("isActive")) or "").lower()),
        metadata=fields.get("metadata"),
        updated_at=_read_instant(fields.get("updatedAt")),
    )


def normalise_name(name: str) -> str:
    """`name` trimmed, white space folded, the first letter of every word upper-case and the rest left alone."""
    folded = re.sub(r"\s+", " ", name).strip()
    return re.sub(r"(?:^|(?<=[ \-'’]))\w", lambda match: match.group().upper(), folded)


def read_whole(text: str | None) -> int | None:
    """A whole number, or None for anything else."""
    return int(text) if text and re.fullmatch(r"-?[0-9]+", text) else None


def read_money(text: str | None) -> Decimal | None:
    """Dollars from text with or without `$` and thousands commas, which must stand where they belong."""
    if not text or not re.fullmatch(r"-?\$?([0-9]+|[0-9]{1,3}(,[0-9]{3})+)(\.[0-9]+)?", text):
        return None
    return Decimal(text.replace("$", "").replace(",", ""))


def read_date(text: str | None) -> date | None:
    """A date in one of the formats with one reading, or None for anything else."""
    for pattern in _DATES:
        if match := re.fullmatch(pattern, text or "", re.ASCII):
            parts = match.groupdict()
            try:
                month = int(parts.get("month") or _MONTHS.index(parts["month_name"].lower()) + 1)
                return date(int(parts["year"]), month, int(parts["day"]))
            except ValueError:
                return None
    return None


def broken_rules(employee: Employee, as_of: date) -> tuple[str, ...]:
    """Every rule that `employee` breaks when looked at alone, on the day `as_of`."""
    email, age, salary, joined = employee.email, employee.age, employee.salary, employee.join_date
    holds = {
        "id": bool(employee.id),
        "name": 2 <= len(employee.name or "") <= 100,
        "email": re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", email or "") is not None,
        "age": age is not None and 16 <= age <= 100,
        "department": employee.department is not None,
        "salary": salary is not None and 0 < salary <= 1_000_000,
        "join_date": joined is not None and joined <= as_of,
        "is_active": employee.is_active is not None,
        "metadata": employee.metadata is None or isinstance(employee.metadata, dict),
    }
    return tuple(rule for rule, is_held in holds.items() if not is_held)


def judge(records: Iterable[Record], as_of: date) -> list[Verdict]:
    """A verdict for every record, in the order given.

    A broken newest version leaves the older valid one standing. An e-mail address belongs to the id whose newest
    valid version claimed it first; every other id's record with it is rejected.
    """
    pairs = [(record, normalise(record.fields)) for record in records]
    failed = [broken_rules(employee, as_of) for _, employee in pairs]
    holders = _email_holders(_newest(_valid(pairs, failed)))
    for place, (_, employee) in enumerate(pairs):
        if holders.get(employee.email, employee.id) != employee.id:
            failed[place] = (*failed[place], EMAIL_NOT_UNIQUE)
    standing = {id(record) for record, _ in _newest(_valid(pairs, failed))}
    return [
        Verdict(record, employee, _outcome(rules, is_standing=id(record) in standing), rules)
        for (record, employee), rules in zip(pairs, failed, strict=True)
    ]


def experience_years(join_date: date, as_of: date) -> int:
    """Completed years between the two days; who joined on 29 February completes one on 1 March of a common year."""
    return as_of.year - join_date.year - ((as_of.month, as_of.day) < (join_date.month, join_date.day))


def salary_grade(salary: Decimal) -> str:
    """Junior, Mid, Senior or Principal."""
    limits = ((50_000, "Junior"), (80_000, "Mid"), (120_000, "Senior"))
    return next((grade for limit, grade in limits if salary < limit), "Principal")


_Pair = tuple[Record, Employee]


def _outcome(failed_rules: Sequence[str], *, is_standing: bool) -> str:
    if failed_rules:
        return "rejected"
    return "accepted" if is_standing else "duplicate"


def _valid(pairs: Sequence[_Pair], failed: Sequence[Sequence[str]]) -> list[_Pair]:
    return [pair for pair, rules in zip(pairs, failed, strict=True) if not rules]


def _newest(pairs: Iterable[_Pair]) -> list[_Pair]:
    def rank(pair: _Pair) -> tuple[Any, ...]:
        record, employee = pair
        own_time = employee.updated_at or datetime.min.replace(tzinfo=UTC)
        return (own_time, record.loaded, -PRIORITIES[record.source], record.location, record.line)

    best: dict[str | None, _Pair] = {}
    for pair in pairs:
        key = pair[1].id
        if key not in best or rank(pair) > rank(best[key]):
            best[key] = pair
    return list(best.values())


def _email_holders(pairs: Iterable[_Pair]) -> dict[str | None, str | None]:
    def rank(pair: _Pair) -> tuple[Any, ...]:
        record, employee = pair
        return (record.loaded, PRIORITIES[record.source], record.location, record.line, employee.id)

    holders: dict[str | None, str | None] = {}
    for _, employee in sorted(pairs, key=rank):
        holders.setdefault(employee.email, employee.id)
    return holders


def _text(value: object) -> str | None:
    """A field as text: a number as it is written, a JSON true as `true`; an empty text is a missing one."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _read_instant(value: object) -> datetime | None:
    if not isinstance(value, str) or not value:
        return None
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _csv_records(content: bytes) -> Iterator[tuple[int, Any]]:
    header, *lines = content.removesuffix(b"\n").split(b"\n")
    columns = header.decode().split(",")
    for number, line in enumerate(lines, start=2):
        yield number, _csv_fields(line, columns) if line else ""


def _csv_fields(line: bytes, columns: Sequence[str]) -> dict[str, Any] | None:
    try:
        values = next(csv.reader([line.decode()], strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    if len(values) != len(columns):
        return None
    fields: dict[str, Any] = {column: value for column, value in zip(columns, values, strict=True) if value != ""}
    if "metadata" in fields:
        with suppress(ValueError):  # text that is no JSON stays text, which is no object either
            fields["metadata"] = parse_json(fields["metadata"])
    return fields


def _lines_records(content: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            yield number, _object(parse_json(line.decode())) if line else ""
        except ValueError:
            yield number, None


def _array_records(content: bytes) -> Iterator[tuple[int, Any]]:
    for number, item in enumerate(_array(parse_json(content.decode())), start=1):
        yield number, _object(item)


def _array(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _object(item: object) -> dict[str, Any] | None:
    return item if isinstance(item, dict) else None


def parse_json(text: str) -> object:
    """JSON read strictly, with decimals kept exact. Raises ValueError for NaN and Infinity too."""
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
