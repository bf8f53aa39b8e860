"""5. Malformed files and seeded mutations: every line is in a row or in a dead letter that gives back its bytes."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from foundation.errors import SourceError
from foundation.sources import CsvSource, JsonSource
from ingestion.parcels import LINEAGE_SCHEMA, Batch, Parcel
from ingestion.readers.csv_files.files import read_csv_file
from ingestion.readers.json_files.files import read_json_file
from ingestion.stores import find_files
from tests.chaos.broken_files import GOOD, HEADER, QUOTED, RECORDS, csv_cases, json_cases, mutated
from tests.chaos.context import Context
from tests.chaos.engine import Round

TITLE = "malformed files and mutations"
MARK = b"\xef\xbb\xbf"
COLUMNS = ["id", "name", "team", "amount", "at"]
CSV = CsvSource.model_validate(
    {
        "type": "csv",
        "path": "*",
        "columns": COLUMNS,
        "delimiter": ",",
        "quote": '"',
        "header": True,
        "encoding": "utf-8",
    }
)
LINES = JsonSource.model_validate({"type": "json", "path": "*", "format": "lines"})
ARRAY = JsonSource.model_validate({"type": "json", "path": "*", "format": "array"})


def rounds(context: Context) -> Iterator[Round]:
    """The files by name, then as many mutations as are wanted, of both kinds in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, data in context.chosen(list(csv_cases().items()), "csv", short=20):
            yield Round(f"csv: {case}", check_csv(folder, data))
        for case, data in context.chosen(list(json_cases().items()), "json", short=20):
            check = check_array if case.startswith("[") else check_lines
            yield Round(f"json: {case}", check(folder, data))
        csv = HEADER + b"\n".join([*GOOD[:30], QUOTED, *GOOD[30:]]) + b"\n"
        lines, array = b"\n".join(RECORDS) + b"\n", b"[" + b",\n".join(RECORDS) + b"]\n"
        for number in range(context.count(2000, 100)):
            chance = context.engine.chance("mutation", number)
            if number % 4 < 2:
                problems = check_csv(folder, mutated(csv, len(HEADER), chance))
            elif number % 4 == 2:
                problems = check_lines(folder, mutated(lines, 0, chance))
            else:
                problems = check_array(folder, mutated(array, 0, chance))
            yield Round(f"mutation {number}", problems)


def _read(folder: Path, data: bytes, source: CsvSource | JsonSource) -> list[Parcel] | str:
    """The parcels of a file with these bytes, or why it cannot be read at all."""
    (folder / "file").write_bytes(data)
    (file,) = find_files(folder, "file")
    parcels = folder / "parcels"
    parcels.mkdir(exist_ok=True)
    batch = Batch("run", datetime(2026, 1, 1, tzinfo=UTC), parcels)
    try:
        if isinstance(source, CsvSource):
            return list(read_csv_file(file, "hr__people", source, None, batch, lambda _: None))
        return list(read_json_file(file, "lab__people", source, None, batch))
    except SourceError as error:
        return error.one_line()


def _books(parcels: list[Parcel]) -> list[str]:
    problems = []
    for parcel in parcels:
        rows = parcel.rows.num_rows if parcel.rows is not None else 0
        letters = parcel.dead_letters.num_rows if parcel.dead_letters is not None else 0
        read, skipped = parcel.count("read"), parcel.count("skipped")
        if read != rows + letters + skipped:
            problems.append(f"{read} read, but {rows} rows, {letters} dead letters, {skipped} skipped")
    return problems


def _letters(parcels: list[Parcel]) -> list[dict[str, Any]]:
    return [row for parcel in parcels if parcel.dead_letters is not None for row in parcel.dead_letters.to_pylist()]


def _rows(parcels: list[Parcel]) -> list[dict[str, Any]]:
    return [row for parcel in parcels if parcel.rows is not None for row in _table(parcel.rows).to_pylist()]


def _table(rows: pa.Table) -> pa.Table:
    return rows


def _rebuilt(data: bytes, letters: list[dict[str, Any]]) -> list[str]:
    """What is wrong with dead letters that do not give back their bytes."""
    problems = []
    for letter in letters:
        held = letter["record_bytes"] if letter["record_bytes"] is not None else letter["record"].encode()
        place, length = letter["byte_offset"], letter["byte_length"]
        if place is None or length is None:
            problems.append(f"a dead letter of line {letter['line']} does not say where it stood")
            continue
        there = data[place : place + length]
        if held.rstrip(b"\r\n") != there[: len(held)].rstrip(b"\r\n") or (
            len(held) < len(there.rstrip(b"\r\n")) and len(held) < 60_000
        ):
            problems.append(f"the dead letter of line {letter['line']} is {held[:40]!r}, the file has {there[:40]!r}")
    return problems


def _coverage(data: bytes, first_line: int, covered: Counter[int]) -> list[str]:
    """Every line with something on it is covered just once."""
    lines = data.split(b"\n")
    problems = [f"line {number} is there {count} times" for number, count in covered.items() if count > 1]
    for number, line in enumerate(lines, start=1):
        if number >= first_line and line.strip() and number not in covered:
            problems.append(f"line {number} is lost: {line[:60]!r}")
    return problems[:3]


def _cover_letters(data: bytes, letters: list[dict[str, Any]], covered: Counter[int]) -> None:
    for letter in letters:
        place, length = letter["byte_offset"] or 0, letter["byte_length"] or 0
        first = data.count(b"\n", 0, place) + 1
        text = data[place : place + length]
        covered.update(range(first, first + text.removesuffix(b"\n").count(b"\n") + 1))


def check_csv(folder: Path, data: bytes) -> list[str]:
    """What is wrong with how a CSV file is read."""
    parcels = _read(folder, data, CSV)
    if isinstance(parcels, str):
        return []  # told, and nothing of it is loaded
    letters, covered = _letters(parcels), Counter[int]()
    for row in _rows(parcels):
        values = [value for name, value in row.items() if name not in LINEAGE_SCHEMA.names and value is not None]
        more = sum(value.count("\n") for value in values)
        covered.update(range(row["_line"], row["_line"] + more + 1))
    _cover_letters(data, letters, covered)
    return _books(parcels) + _rebuilt(data, letters) + _coverage(data, 2, covered)


def check_lines(folder: Path, data: bytes) -> list[str]:
    """What is wrong with how a file of JSON lines is read."""
    parcels = _read(folder, data, LINES)
    if isinstance(parcels, str):
        return []
    letters, covered = _letters(parcels), Counter[int]()
    rows = {row["_line"]: row["record"] for row in _rows(parcels)}
    covered.update(rows.keys())
    _cover_letters(data, letters, covered)
    problems = _books(parcels) + _rebuilt(data, letters) + _coverage(data, 1, covered)
    for number, line in enumerate(data.split(b"\n"), start=1):
        if (number in rows) != _is_object(line.removeprefix(MARK) if number == 1 else line):
            problems.append(f"line {number} is {'a row' if number in rows else 'no row'}: {line[:60]!r}")
    return problems


def check_array(folder: Path, data: bytes) -> list[str]:
    """What is wrong with how a JSON document is read: a sound one gives all its records, another one a dead letter."""
    parcels = _read(folder, data, ARRAY)
    if isinstance(parcels, str):
        return []
    letters, rows = _letters(parcels), _rows(parcels)
    problems = _books(parcels) + _rebuilt(data, letters)
    try:
        items = json.loads(data.removeprefix(MARK).decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return problems if letters else [*problems, "a document that is broken has no dead letter"]
    wanted = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else None
    if wanted is not None and [json.loads(row["record"]) for row in rows] != wanted:
        problems.append(f"{len(rows)} rows of {len(wanted)} records")
    return problems


def _refuse(name: str) -> None:
    raise ValueError(name)


def _is_object(line: bytes) -> bool:
    try:
        value = json.loads(line.decode(), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)
