"""What an HTTP API answered: from the bytes to the records in it, each with the text that it arrived with."""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pyarrow as pa

from foundation.errors import SourceError

_BLANK = re.compile(r"[ \t\r\n]*")
# How much of an answer that was not expected an error shows.
HEAD_SHOWN = 100


class Fault(Exception):  # noqa: N818 - no error yet: another try may go well
    """One try that got no usable answer. `reason` groups such faults, `wait` is the seconds that the server asked for.

    One that `passes` may go well when it is tried again.
    """

    def __init__(
        self, reason: str, message: str, *, passes: bool, wait: float | None = None, stage: str = "fetch", fix: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.passes = passes
        self.wait = wait
        self.stage = stage
        self.fix = fix
        self.note = message

    @property
    def is_rate_limit(self) -> bool:
        """Whether the server had too many requests."""
        return self.reason == "http_429"

    def __repr__(self) -> str:
        """What the log of a retry tells."""
        return self.note


class Stopped(SourceError):  # noqa: N818 - named after its cause, like the others
    """The walk or the run that a request belongs to is over, so nobody waits for the answer any more."""


@dataclass(frozen=True)
class Body:
    """An answer taken apart: its records as a string array, and the rest of it parsed, with [] in their place.

    Where no list stands there `is_list` is False and the rest is all of it; a single object is then the one record.
    The hash is the SHA-256 of the records without what surrounds them: a time or an address there says nothing new.
    """

    records: pa.Array
    content_hash: str
    size_bytes: int
    is_list: bool
    rest: Any

    @property
    def count(self) -> int:
        """How many records it holds."""
        return len(self.records)


def body_text(content: bytes, *, encoding: str, content_type: str, largest: int) -> str:
    """The text of an answer that came as `content`. Raises Fault when it is cut short, too large or no text."""
    data = _unpacked(content, encoding.strip().lower(), largest)
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        problem = error
    declared = re.search(r"charset=\"?([\w-]+)", content_type)
    try:
        if declared and declared.group(1).lower() not in ("utf-8", "utf8"):
            return data.decode(declared.group(1))
    except (UnicodeDecodeError, LookupError):
        pass
    raise Fault("not_utf8", f"the answer is not UTF-8 text: byte {problem.start}", passes=True, stage="parse")


def _unpacked(content: bytes, encoding: str, largest: int) -> bytes:
    if encoding in ("", "identity"):
        return content
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Fault("encoding", f"the answer is packed as {encoding[:20]}, which was not asked for", passes=False)
    parts: list[bytes] = []
    size = 0
    while content:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            parts.append(unpacker.decompress(content, largest + 1 - size))
        except zlib.error as error:
            raise Fault("invalid_gzip", f"the packed answer is damaged: {error}", passes=True) from error
        size += len(parts[-1])
        if size > largest:
            raise too_large(largest)
        if not unpacker.eof:
            raise Fault("cut_short", "the packed answer is cut short", passes=True)
        content = unpacker.unused_data
    return b"".join(parts)


def too_large(largest: int) -> Fault:
    """The fault of an answer with more bytes than the settings allow."""
    return Fault(
        "too_large",
        f"the answer is larger than {largest >> 20} MB",
        passes=False,
        fix="ask for smaller pages, or raise largest_response_mb",
    )


def parse_body(text: str, records_path: str, content_type: str) -> Body:
    """The answer taken apart. Raises Fault when it is not JSON: a body that was cut off looks like that too."""
    try:
        return record_texts(text, records_path)
    except RecursionError as error:
        raise Fault("invalid_json", "the answer is nested too deeply", passes=False, stage="parse") from error
    except ValueError as error:
        kind = content_type.split(";")[0].strip() or "no content type"
        message = f"the answer is not JSON but {kind}: {text[:HEAD_SHOWN]!r}"
        raise Fault("invalid_json", message, passes=True, stage="parse") from error


def value_at(body: Any, path: str) -> Any:
    """The value at a dotted path, or None where there is none."""
    for part in path.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def record_texts(body_text: str, records_path: str) -> Body:
    """The records at a dotted path of a JSON text, as they stand in it, so that 1.50 stays 1.50.

    Raises ValueError where the text is not JSON from its start to its end.
    """
    try:
        return _raw_records(body_text.encode(), records_path.split(".") if records_path else [])
    except (msgspec.DecodeError, RecursionError):
        # It refuses half a surrogate pair, which JSON allows, and tells of nothing how far it came.
        return _scanned_records(body_text, records_path)


def _raw_records(data: bytes, path: Sequence[str]) -> Body:
    if path:
        try:
            members = _MEMBERS.decode(data)
        except msgspec.ValidationError:  # no object
            return _body([], False, json.loads(data))
        inner = _raw_records(bytes(members[path[0]]), path[1:]) if path[0] in members else None
        rest = {name: json.loads(bytes(raw)) for name, raw in members.items() if name != path[0]}
        if inner is None:
            return _body([], False, rest)
        return replace(inner, rest=rest | {path[0]: inner.rest})
    try:
        return _body([bytes(item) for item in _ITEMS.decode(data)], True, [])
    except msgspec.ValidationError:  # no list
        value = json.loads(data)
        return _body([data.strip()] if isinstance(value, dict) else [], False, value)


def _body(texts: Sequence[bytes], is_list: bool, rest: Any) -> Body:
    content_hash = hashlib.sha256(b"\n".join(texts)).hexdigest()
    return Body(pa.array(texts, pa.string()), content_hash, sum(map(len, texts)), is_list, rest)


def _scanned_records(body_text: str, records_path: str) -> Body:
    try:
        place = _blank(body_text, 0)
        _, found = _value(body_text, place, records_path.split(".") if records_path else [])
    except IndexError:
        raise ValueError("the text ends early") from None
    if found is None:
        return _body([], False, _parse(body_text))
    start, end, spans, is_list = found
    texts = [body_text[first:last].encode() for first, last in spans]
    return _body(texts, is_list, _parse(f"{body_text[:start]}[]{body_text[end:]}" if is_list else body_text))


# Where the value at the path starts and ends, where its records do, and whether it is a list of them.
_Found = tuple[int, int, Sequence[tuple[int, int]], bool]


def _value(text: str, place: int, path: Sequence[str]) -> tuple[int, _Found | None]:
    """The end of the value that starts at `place`, and what lies at the path in it."""
    if not path:
        return _records(text, place)
    if text[place] != "{":
        return _DECODER.raw_decode(text, place)[1], None
    found: _Found | None = None
    place = _blank(text, place + 1)
    while text[place] != "}":
        key, place = _DECODER.raw_decode(text, place)
        place = _blank(text, _expect(text, _blank(text, place), ":"))
        if key == path[0]:  # of a key that is there twice the last one counts, as in json.loads
            place, found = _value(text, place, path[1:])
        else:
            _, place = _DECODER.raw_decode(text, place)
        place = _next_item(text, place, "}")
    return place + 1, found


def _records(text: str, place: int) -> tuple[int, _Found | None]:
    start = place
    if text[place] != "[":
        value, end = _DECODER.raw_decode(text, place)
        return end, (start, end, [(start, end)], False) if isinstance(value, dict) else None
    spans: list[tuple[int, int]] = []
    place = _blank(text, place + 1)
    while text[place] != "]":
        _, end = _DECODER.raw_decode(text, place)
        spans.append((place, end))
        place = _next_item(text, end, "]")
    return place + 1, (start, place + 1, spans, True)


def _next_item(text: str, place: int, closing: str) -> int:
    """Where the next item starts, or the closing bracket stands."""
    place = _blank(text, place)
    if text[place] == closing:
        return place
    place = _blank(text, _expect(text, place, ","))
    if text[place] == closing:
        raise ValueError("a comma before a closing bracket")
    return place


def _expect(text: str, place: int, sign: str) -> int:
    if text[place] != sign:
        raise ValueError(f"no {sign} at {place}")
    return place + 1


def _blank(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    assert match is not None
    return match.end()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
