"""JSON files: one record a line (NDJSON), or an array of records. A record keeps the text it arrived with."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

from foundation.sources import JsonSource
from ingestion.parcels import Batch, Parcel
from ingestion.readers.ahead import in_order
from ingestion.readers.framing import CHUNK_BYTES, KnownPrefix, read_chunks
from ingestion.readers.json_files.framing import BLANK, BYTE_ORDER_MARK, Break, read_document
from ingestion.readers.json_files.parcels import ParcelMaker, open_database
from ingestion.stores import StoredFile

_HEAD_BYTES = 1_000_000
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

Form = Literal["lines", "array", "objects", "utf-16"]


def read_json_file(
    file: StoredFile,
    name: str,
    source: JsonSource,
    known: KnownPrefix | None,
    batch: Batch,
    expected: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Parcel]:
    """The parcels of what is new in a JSON file; none when nothing is.

    `expected` are the types of each key as `Load.fields` tells them; what other records do then is for
    `source.schema_drift` to say. Raises SourceError when the file cannot be read, or drifted and may not.
    """
    with open_database() as database:
        maker = ParcelMaker(file, name, source.schema_drift, batch, expected or {}, database)
        yield from _parcels(maker, known, _form(file, source))


def _parcels(maker: ParcelMaker, known: KnownPrefix | None, form: Form) -> Iterator[Parcel]:
    if form == "utf-16":
        rest = maker.rest(Break(0, 1, 0, "the file is UTF-16 text: save it as UTF-8"))
        if known is None or known.content_hash != rest.loads[0].content_hash:
            yield rest
        return
    with maker.file.open() as stream:
        if form == "lines":
            chunks = read_chunks(stream, known, chunk_bytes=CHUNK_BYTES)
            yield from in_order(partial(maker.lines, chunk) for chunk in chunks)
            return
        pieces = read_document(stream, known, is_array=form == "array", chunk_bytes=CHUNK_BYTES)
        for parcel, damage in in_order(partial(maker.items, piece) for piece in pieces):
            if parcel is not None:
                yield parcel
            if damage is not None:
                yield maker.rest(damage)
                return


def _form(file: StoredFile, source: JsonSource) -> Form:
    """What a file is, by its head: lines of records, an array, objects over many lines, or no text in UTF-8."""
    with file.open() as stream:
        try:
            head = stream.read(_HEAD_BYTES)
        except (OSError, EOFError) as error:
            raise file.unreadable(error) from error
    looks_wide = source.format != "lines" and b"\0\0\0" in (head[:6:2], head[1:6:2])
    if head.startswith(_UTF_16_MARKS) or looks_wide:
        return "utf-16"
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip(BLANK)
    document: Literal["array", "objects"] = "array" if text.startswith(b"[") else "objects"
    if source.format != "auto":
        return "lines" if source.format == "lines" else document
    first, _, rest = text.partition(b"\n")
    if not text.startswith((b"[", b"{")):
        return "lines"
    if not rest.strip(BLANK):
        return "array" if document == "array" else "lines"
    # `[1]` over and over is lines of arrays; an array ends its first line open, or is all there is.
    if _is_json(first):
        return "lines"
    if document == "array" or first.strip(BLANK) == b"{":
        return document
    return "objects" if _first_value_has_lines(text) else "lines"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _first_value_has_lines(text: bytes) -> bool:
    decoded = text.decode(errors="replace")
    try:
        end = json.JSONDecoder().raw_decode(decoded)[1]
    except (ValueError, RecursionError):
        return False
    return "\n" in decoded[:end]
