"""JSON files: one record a line (NDJSON), or an array of records. A record keeps the text it arrived with.

DuckDB judges and moves the records. It also takes NaN, Infinity and trailing commas for JSON; those go to the dead
letters, because nothing after raw could read them the same way everywhere (RFC 8259, sections 4 to 6).
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foundation.sources import JsonSource
from foundation.warehouse import quote_literal
from ingestion.parcels import Batch, DeadLetter, Parcel, ParcelDraft
from ingestion.readers.framing import (
    Chunk,
    KnownPrefix,
    Lines,
    is_plain,
    read_chunks,
    set_lines_aside,
    undecodable_lines,
)
from ingestion.stores import StoredFile

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_RECORD = 256 * 1024 * 1024
# A broken array is read again in memory to save the records before the break; a larger one is one dead letter.
LARGEST_BROKEN_ARRAY = 256 * 1024 * 1024

# The text of a record without its strings, which may hold anything; looked at only where the first test finds a hint.
_LENIENT = r"""
    case
        when not regexp_matches(record, 'NaN|Infinity|,\s*[\]}]') then false
        else regexp_matches(
            regexp_replace(record, '"([^"\\]|\\.)*"', '""', 'g'), 'NaN|Infinity|,\s*[\]}]'
        )
    end"""
_VERDICT = f"""
    case
        when not json_valid(record) then 'invalid_json'
        when {_LENIENT} then 'invalid_json'
        when json_type(record) <> 'OBJECT' then 'not_an_object'
    end"""
MESSAGES = {
    "invalid_json": "the text is not valid JSON",
    "not_an_object": "the JSON value is not an object",
    "not_utf8": "the bytes are not valid UTF-8 text",
}


def read_json_file(
    file: StoredFile, name: str, source: JsonSource, known: KnownPrefix | None, batch: Batch
) -> Iterator[Parcel]:
    """The parcels of what is new in a JSON file; none when nothing is. Raises SourceError when it cannot be read."""
    form = _form(file) if source.format == "auto" else source.format
    if form == "lines":
        with file.open() as stream:
            for chunk in read_chunks(stream, known):
                yield _read_lines(ParcelDraft(batch, name, "json", file.location, chunk.prefix_hash), chunk)
    else:
        yield from _read_document(file, name, known, batch)


def _form(file: StoredFile) -> str:
    """Whether a file is one document (an array, or objects over many lines) or lines of records, by its head."""
    with file.open() as stream:
        try:
            head = stream.read(1_000_000).removeprefix(BYTE_ORDER_MARK).lstrip()
        except (OSError, EOFError) as error:
            raise file.unreadable(error) from error
    if head.startswith(b"["):
        first, _, rest = head.partition(b"\n")
        # `[1]` over and over is lines of arrays; an array ends its first line open, or is all there is.
        return "lines" if rest.strip() and _is_json(first) else "array"
    if head.startswith(b"{"):
        first, _, rest = head.partition(b"\n")
        return "array" if rest.strip() and first.strip() in (b"{", b"") else "lines"
    return "lines"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _read_lines(draft: ParcelDraft, chunk: Chunk) -> Parcel:
    mark = len(BYTE_ORDER_MARK) if chunk.offset == 0 and chunk.data.startswith(BYTE_ORDER_MARK) else 0
    body = chunk.after(mark)
    lines = Lines(body.data)
    keep = ~lines.blank()
    skipped = len(lines) - int(keep.sum())
    if not is_plain(body.data):
        for index, problem in undecodable_lines(lines).items():
            keep[index] = False
            set_lines_aside(draft, lines, body, np.array([index]), np.array([index]), "not_utf8", problem)
    data = lines.kept(keep)
    numbers = np.flatnonzero(keep)
    with duckdb.connect() as connection:
        connection.register("lines", pa.table({"record": _line_array(data), "_index": pa.array(numbers)}))
        connection.execute(
            f"create temp table judged as select record, _index, {_VERDICT} as verdict "
            r"from (select rtrim(record, chr(13) || chr(10)) as record, _index from lines)"
        )
        bad = connection.execute("select _index, verdict from judged where verdict is not null order by 1").fetchall()
        for index, verdict in bad:
            set_lines_aside(draft, lines, body, np.array([index]), np.array([index]), verdict, MESSAGES[verdict])
        loaded = len(numbers) - len(bad)
        if loaded:
            _set_records(connection, draft, f"_index + {int(body.first_line)}")
    return draft.seal(
        columns=["record"],
        skipped=skipped,
        size_bytes=chunk.end,
        start_bytes=chunk.offset,
        position_bytes=chunk.end,
        lines=chunk.first_line - 1 + len(lines),
    )


def _line_array(data: bytes) -> pa.Array:
    """The lines of `data`, newline included, as an Arrow array over the very same bytes."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    offsets: NDArray[np.int64] = np.concatenate([[0], ends]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(data))


def _set_records(connection: duckdb.DuckDBPyConnection, draft: ParcelDraft, line: str) -> None:
    found = connection.execute(f"select record, {line} as _line from judged where verdict is null").to_arrow_table()
    draft.set_rows(found.select(["record"]), found["_line"].to_numpy())


def _read_document(file: StoredFile, name: str, known: KnownPrefix | None, batch: Batch) -> Iterator[Parcel]:
    """An array, or objects over many lines, are read whole, or not at all when they are what they were."""
    content_hash, size, is_text, is_marked = _survey(file)
    if known is not None and known.content_hash == content_hash:
        return
    draft = ParcelDraft(batch, name, "json", file.location, content_hash)
    # DuckDB reads from a copy that cannot change between the survey and the parse.
    copy = batch.folder / f"{name}.{draft.load_id}.json"
    try:
        _unpack(file, copy, is_marked)
        _load_document(draft, copy, is_text)
    finally:
        copy.unlink(missing_ok=True)
    yield draft.seal(columns=["record"], size_bytes=size, position_bytes=size, lines=0)


def _survey(file: StoredFile) -> tuple[str, int, bool, bool]:
    """Hash, size in bytes, whether it is UTF-8 text without NUL, and whether it starts with a byte order mark."""
    content_hash, size, is_text, marked = "", 0, True, False
    with file.open() as stream:
        try:
            for chunk in read_chunks(stream, None):
                content_hash, size = chunk.prefix_hash, chunk.end
                marked = marked or (chunk.offset == 0 and chunk.data.startswith(BYTE_ORDER_MARK))
                is_text = is_text and is_plain(chunk.data)
        except (OSError, EOFError) as error:
            raise file.unreadable(error) from error
    return content_hash, size, is_text, marked


def _unpack(file: StoredFile, copy: Path, is_marked: bool) -> None:
    with file.open() as stream, copy.open("wb") as out:
        if is_marked:
            stream.read(len(BYTE_ORDER_MARK))
        shutil.copyfileobj(stream, out, 4 * 1024 * 1024)


def _load_document(draft: ParcelDraft, copy: Path, is_text: bool) -> int:
    with duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        try:
            if not is_text:
                raise duckdb.InvalidInputException(MESSAGES["not_utf8"])
            connection.execute(
                "create temp table records as select json::varchar as record, rowid_ as _index from "
                "(select json, row_number() over () as rowid_ from read_json_objects("
                f"{quote_literal(str(copy))}, format = {quote_literal(_layout(copy))}, "
                f"maximum_object_size = {LONGEST_RECORD}))"
            )
        except (duckdb.InvalidInputException, duckdb.IOException) as error:
            if not _save_head(connection, draft, copy, str(error).splitlines()[0].split(" in file ")[0]):
                return 0
        connection.execute(f"create temp table judged as select *, {_VERDICT} as verdict from records")
        bad = connection.execute(
            "select _index, verdict, record from judged where verdict is not null order by 1"
        ).fetchall()
        for index, verdict, record in bad:
            draft.letters.append(DeadLetter(verdict, MESSAGES[verdict], record.encode(), line=index))
        counted = connection.execute("select count(*) from judged where verdict is null").fetchone()
        loaded = int(counted[0]) if counted else 0
        if loaded:
            _set_records(connection, draft, "_index")
    return loaded


def _layout(copy: Path) -> str:
    with copy.open("rb") as stream:
        return "array" if stream.read(1_000_000).lstrip().startswith(b"[") else "unstructured"


def _save_head(connection: duckdb.DuckDBPyConnection, draft: ParcelDraft, copy: Path, problem: str) -> bool:
    """Of a document that breaks off: keep the records before the break, and set the rest aside as one dead letter.

    Nothing after the break is taken for a record: what looks like one may be a part of another.
    """
    size = copy.stat().st_size
    data = copy.read_bytes() if size <= LARGEST_BROKEN_ARRAY else b""
    text = data.decode(errors="surrogateescape")
    spans, stop = _whole_items(text)
    records = {number: text[start:end] for number, (start, end) in enumerate(spans, start=1)}
    for number in [number for number, record in records.items() if not _is_text(record)]:
        original = records.pop(number).encode(errors="surrogateescape")
        draft.letters.append(DeadLetter("not_utf8", MESSAGES["not_utf8"], original, line=number))
    rest = text[stop:].encode(errors="surrogateescape")
    if rest.strip() not in (b"", b"]") or not data:
        draft.letters.append(
            DeadLetter(
                "broken_document",
                f"the document cannot be read from here on: {problem}",
                rest,
                line=text.count("\n", 0, stop) + 1,
                byte_offset=size - len(rest) if data else 0,
                byte_length=len(rest) if data else size,
            )
        )
    head = {
        "record": pa.array(records.values(), pa.large_string()),
        "_index": pa.array(records.keys(), pa.int64()),
    }
    connection.register("head", pa.table(head))
    connection.execute("create temp table records as select * from head")
    return bool(records)


def _is_text(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _whole_items(text: str) -> tuple[list[tuple[int, int]], int]:
    """Where the items of a document start and end, as far as they can be read, and where reading stopped."""
    decoder = json.JSONDecoder()
    place = len(text) - len(text.lstrip())
    place += text[place : place + 1] == "["
    spans: list[tuple[int, int]] = []
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return spans, place
        spans.append((place, end))
        place = end
