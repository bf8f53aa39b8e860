"""A look at a source with the readers that will read it: some of its records, and the entry that penstock.yml needs."""

import json
import os
import re
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from foundation.errors import ConfigError, SourceError
from foundation.settings import Settings
from foundation.sources import IDENTIFIER, CsvSource, JsonSource, ParquetSource
from ingestion.parcels import LINEAGE_SCHEMA, Batch, Parcel
from ingestion.readers.csv_files.files import read_csv_file
from ingestion.readers.json_files.files import read_json_file
from ingestion.readers.parquet_files.files import read_parquet_file
from ingestion.stores import StoredFile, find_files

# So much of a source is looked at.
MOST_RECORDS, MOST_BYTES, MOST_FILES = 100_000, 96 * 1024 * 1024, 50
# A file with a larger share of records that cannot be read is taken for something else.
MOST_BROKEN = 0.5
_HEAD_BYTES = 64 * 1024
_PACKED = r"(\.(gz|bz2|xz|zst))?$"
_ENDINGS = {"parquet": r"\.(parquet|pq)", "json": r"\.(json|ndjson|jsonl)", "csv": r"\.(csv|tsv|tab|psv)"}
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Looked:
    """Some records of a source, as raw will hold them, and its entry in penstock.yml.

    `guesses` tell what was found out and how sure that is.
    """

    entry: dict[str, Any]
    records: pa.Table
    guesses: list[str]
    is_all: bool
    broken: int = 0

    @property
    def kind(self) -> str:
        """csv, json, parquet or api."""
        return str(self.entry["type"])

    @property
    def is_json(self) -> bool:
        """Whether raw has a record whole."""
        return self.kind in ("json", "api")


@dataclass
class _Found:
    """What the readers gave."""

    tables: list[pa.Table] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    dialects: list[dict[str, Any]] = field(default_factory=list)
    broken: int = 0
    is_all: bool = True

    @property
    def count(self) -> int:
        return sum(int(table.num_rows) for table in self.tables)

    @property
    def is_enough(self) -> bool:
        return self.count >= MOST_RECORDS or sum(int(table.nbytes) for table in self.tables) >= MOST_BYTES

    def take(self, parcel: Parcel) -> None:
        """Keep the rows of a parcel, without lineage, and count what could not be read."""
        for load in parcel.loads:
            if load.dialect:
                self.dialects.append(json.loads(load.dialect))
        if parcel.dead_letters is not None:
            self.broken += parcel.dead_letters.num_rows
            self.problems += parcel.dead_letters["message"].slice(0, 1).to_pylist()
        if parcel.rows is not None:
            names = [name for name in parcel.rows.column_names if name not in LINEAGE_SCHEMA.names]
            self.tables.append(parcel.rows.select(names).slice(0, MOST_RECORDS - self.count))


def is_api(address: str, kind: str | None) -> bool:
    """Whether an address is that of an API, and not of a file on the web."""
    if kind is not None:
        return kind == "api"
    path = re.split(r"[?#]", address, maxsplit=1)[0].lower()
    is_file = any(re.search(ending + _PACKED, path) for ending in _ENDINGS.values() if ending != r"\.(json)")
    return re.match(r"https?://|\$\{", address) is not None and (path.endswith(".json") or not is_file)


def look_at_files(root: Path, settings: Settings, name: str, address: str, kind: str | None) -> Looked:
    """Some records of the files that `address` names. Raises SourceError or ConfigError where they are none to load."""
    path = _path_from_root(root, address)
    try:
        files = find_files(root, path, settings.allowed_roots)
    except SourceError as error:
        raise SourceError(
            error.what, where=error.where, fix="name a file that is there, or a glob such as *.csv"
        ) from None
    head = _head(files[0])
    guesses = []
    if kind is None:
        kind, why = _kind(files[0].location, head)
        guesses.append(f"type {kind}: {why}")
    _refuse_web_page(head, files[0].location)
    entry: dict[str, Any] = {"type": kind, "path": path}
    found = _read(files, name, entry)
    where = files[0].location
    if not found.count:
        told = [*found.problems, *found.notices]
        raise SourceError(
            _one(told) or "there is no record in it", where=where, fix="look whether it is the right file"
        )
    if found.broken > MOST_BROKEN * (found.broken + found.count):
        raise SourceError(
            f"{found.broken:,} of {found.broken + found.count:,} records cannot be read as {kind}: "
            + _one(found.problems),
            where=where,
            fix="mend the file, or say with --type what it is",
        )
    if kind == "json" and len(files) == 1 and found.count == 1 and found.is_all:
        _refuse_wrapped(found.tables[0]["record"][0].as_py(), where)
    records = pa.concat_tables(found.tables, promote_options="default")
    if kind == "csv":
        _declare(entry, records.column_names, found, files, name)
    guesses += [notice for notice in dict.fromkeys(found.notices) if " is read with " in notice]
    if len(files) > 1:
        guesses.append(f"{len(files):,} files fit the path now; each that comes later is read too")
    return Looked(entry, records, guesses, found.is_all, found.broken)


def _path_from_root(root: Path, address: str) -> str:
    """The path as penstock.yml spells it: relative to that file where it lies below its folder."""
    if "://" in address:
        if "@" in address.split("://", 1)[1].partition("/")[0]:
            raise ConfigError("an address may hold no password", fix="let the environment say who asks")
        return address
    if "\n" in address or "\0" in address:
        raise ConfigError("a path has one line", fix="rename the file")
    given = Path(address).expanduser()
    here = Path(os.path.abspath(given))  # noqa: PTH100 - resolve() would follow links
    if not given.is_absolute() and not _may_be_there(here):
        return given.as_posix()
    return here.relative_to(root).as_posix() if here.is_relative_to(root) else here.as_posix()


def _may_be_there(path: Path) -> bool:
    fixed = next((parent for parent in [path, *path.parents] if not _WILDCARD.search(str(parent))), path)
    return fixed.exists()


def _head(file: StoredFile) -> bytes:
    try:
        with file.open() as stream:
            return stream.read(_HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise file.unreadable(error) from error


def _kind(location: str, head: bytes) -> tuple[str, str]:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PAR1"):
        return "parquet", "by its first bytes, sure"
    named = next((k for k, ending in _ENDINGS.items() if re.search(ending + _PACKED, location.lower())), None)
    if text[:1] in (b"{", b"[") and named != "csv":
        return "json", "by its first sign, sure" if named else "by its first sign; --type csv says otherwise"
    if named in ("csv", "json"):
        return named, "by its name"
    return "csv", "neither JSON nor Parquet; look at the columns"


def _refuse_web_page(head: bytes, where: str) -> None:
    if re.match(rb"\s*<(!doctype|html|\?xml)", head.removeprefix(b"\xef\xbb\xbf")[:200], re.IGNORECASE):
        raise SourceError("it is a web page, no data", where=where, fix="look whether a login or an error was saved")


def _read(files: Sequence[StoredFile], name: str, entry: dict[str, Any], most: int = MOST_FILES) -> _Found:
    found = _Found(is_all=len(files) <= most)
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        batch = Batch("look", datetime.now(UTC), Path(folder))
        for file in files[:most]:
            try:
                with closing(_parcels(file, name, entry, batch, found)) as parcels:
                    for parcel in parcels:
                        found.take(parcel)
                        if found.is_enough:
                            found.is_all = False
                            break
            except (OSError, EOFError) as error:
                raise file.unreadable(error) from error
            if found.is_enough:
                break
    return found


def _parcels(file: StoredFile, name: str, entry: dict[str, Any], batch: Batch, found: _Found) -> Generator[Parcel]:
    notice = found.notices.append
    parcels: Iterable[Parcel]
    if entry["type"] == "csv":
        parcels = read_csv_file(file, name, CsvSource.model_validate(entry), None, batch, notice)
    elif entry["type"] == "json":
        parcels = read_json_file(file, name, JsonSource.model_validate(entry), None, batch)
    else:
        parcels = read_parquet_file(file, name, ParquetSource.model_validate(entry), None, batch, notice)
    yield from parcels


def _declare(
    entry: dict[str, Any], columns: Sequence[str], found: _Found, files: Sequence[StoredFile], name: str
) -> None:
    """Name the columns in the entry, and the dialect where it would not be found out with them."""
    named = [column for column in columns if re.fullmatch(IDENTIFIER, column)]
    if any(dialect.get("header") is False for dialect in found.dialects):
        entry["header"] = False
    if not named or ("header" in entry and named != list(columns)):
        return
    again = _read(files[:1], name, entry | {"columns": named}, 1)
    first = {key: found.dialects[0].get(key) for key in ("delimiter", "quote", "escape", "header", "columns")}
    if again.dialects and {key: again.dialects[0].get(key) for key in first} == first:
        entry["columns"] = named


def _refuse_wrapped(record: str, where: str) -> None:
    """Raises SourceError for an object that is no record but holds lists of them."""
    try:
        body = json.loads(record)
    except ValueError:
        return
    lists = [f"{path} ({len(items):,})" for path, items in lists_in(body)]
    keyed = [f"{key} ({len(value):,})" for key, value in body.items() if _is_keyed(value)]
    if not lists:
        return
    also = f"; objects by key stand at {', '.join(keyed[:5])}" if keyed else ""
    path = lists[0].partition(" ")[0]
    raise SourceError(
        f"it is one object and no list of records; lists of objects stand at {', '.join(lists[:10])}{also}",
        where=where,
        fix=f"write the list into a file of its own, as with jq '.{path}'; --records-path is for APIs",
    )


def _is_keyed(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 1 and all(isinstance(one, dict) for one in value.values())


def lists_in(body: Any, depth: int = 4, path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[Any]]]:
    """Every list of objects, most items at least, with its dotted path; lists inside of these are no further ones."""
    if isinstance(body, dict) and depth:
        for key, value in islice(body.items(), MOST_RECORDS):
            if "." in key or not key:
                continue
            if isinstance(value, list) and 2 * sum(isinstance(one, dict) for one in value) > len(value):
                yield ".".join((*path, key)), value
            elif isinstance(value, dict) and not (depth < 4 and _is_keyed(value)):
                yield from lists_in(value, depth - 1, (*path, key))


def _one(told: Sequence[str]) -> str:
    return " ".join(told[0].split())[:300] if told else ""
