"""Lines and items that no record can be read from: what the dead letters are for."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Malformed:
    """Bytes that stand where one line of a file or one item of an array belongs; `is_last` if only the end will do."""

    kind: str
    text: bytes
    is_last: bool = False


def csv_line(values: Sequence[Any], *, quote_all: bool = False) -> str:
    """One line of a CSV file without its end; quoted where needed, or wherever there is a value."""
    return ",".join(_csv_field(value, quote_all) for value in values)


def _csv_field(value: object, is_quoted: bool) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if is_quoted or any(sign in text for sign in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def malformed_csv(columns: Sequence[str], *, has_hidden: bool) -> Iterator[Malformed]:
    """Broken lines of a CSV file, at wish also two that hide: shifted fields, and a quote that never closes."""
    record: dict[str, Any] = {
        "id": "99001",
        "email": "ann.bell.99001@example.com",
        "age": "30",
        "department": "Sales",
        "salary": "50000",
        "joinDate": "2020-01-02",
        "isActive": "true",
    }

    def line(**changed: str) -> str:
        return csv_line([(record | {"name": "Ann Bell"} | changed).get(column) for column in columns])

    yield Malformed("too_few_fields", line().rsplit(",", 3)[0].encode())
    too_many = line(salary="$85,000.00", updatedAt="2025-01-02T03:04:05Z").replace('"', "")
    yield Malformed("too_many_fields", too_many.encode())
    yield Malformed("not_utf8", line(name="José Bell").encode("latin-1"))
    yield Malformed("text_after_quote", line(name="Ann Bell").replace("Ann Bell", '"Ann "Annie" Bell"').encode())
    if has_hidden:
        # The comma moves every later field by one, and only an empty one falls off the end: some readers see no fault.
        yield Malformed("shifted_fields", line(salary="$85,000.00").replace('"', "").encode())
        # What stands behind the quote would be swallowed too, so nothing does.
        yield Malformed("open_quote", line().replace("Ann Bell", '"Ann Bell').encode(), is_last=True)


def malformed_ndjson() -> Iterator[Malformed]:
    """Lines of an NDJSON file that are no JSON, or JSON but no object."""
    good = json.dumps({"id": "99101", "name": "Ben Carver", "email": "ben.carver.99101@example.org", "salary": 61000})
    yield Malformed("single_quotes", good.replace('"', "'").encode())
    yield Malformed("not_a_number", good.replace("61000", "NaN").encode())
    yield Malformed("trailing_comma", good.replace("}", ",}").encode())
    yield Malformed("cut_object", good[:52].encode())
    yield Malformed("array", b'["99101", "Ben Carver", "ben.carver.99101@example.org"]')


def malformed_items(*items: object) -> Iterator[Malformed]:
    """Items of a JSON array that are no object; the array itself stays whole."""
    for item in items:
        yield Malformed("not_an_object", json.dumps(item).encode())
