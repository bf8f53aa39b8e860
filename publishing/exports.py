"""File exports of the marts: CSV, JSON and Parquet, written by the warehouse itself and put in place whole."""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.errors import PublishError, StorageError
from foundation.events import Emit, Event
from foundation.failpoints import failpoint
from foundation.settings import Output
from foundation.warehouse import Warehouse, open_warehouse, quote_identifier, quote_literal
from publishing import candidates
from publishing.candidates import Candidate, Column
from publishing.releases import Release

if TYPE_CHECKING:
    import duckdb

STAGE = "export"
KEPT = ".releases"  # the files of each retained release, in a folder with its number
_BATCH_ROWS = 20_000
# What spreadsheets take for a formula, behind white space too (OWASP, CSV Injection); a number is none.
_FORMULA = r"^\s*[=+\-@\t\r\n＝＋－＠]"


def keep_exports(files: Sequence[Path], output_dir: Path, release: Release) -> None:
    """Keep the files of a release beside them for as long as it is retained: links, which cost nothing.

    Raises StorageError.
    """
    kept = output_dir / KEPT
    folder = kept / str(release.release_id)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in files:
            _link(file, folder / file.name)
            failpoint("export.kept")
        for other in kept.iterdir():
            if other.name.isdecimal() and int(other.name) < release.oldest_retained:
                shutil.rmtree(other)
    except OSError as error:
        raise StorageError(
            f"exports cannot be kept: {error.strerror}", where=str(folder), fix="free some space"
        ) from error


def bring_back_exports(outputs: Mapping[str, Output], output_dir: Path, shows_release: int) -> list[Path]:
    """Put the files of a release in place again after a rollback; those that were kept. Raises StorageError."""
    folder = output_dir / KEPT / str(shows_release)
    brought = []
    for mart, output in outputs.items():
        for extension in output.export.formats if output.export else ():
            kept = folder / f"{mart}.{extension}"
            if kept.exists():
                with _replacing(output_dir / kept.name) as unfinished:
                    unfinished.unlink(missing_ok=True)
                    _link(kept, unfinished)
                brought.append(output_dir / kept.name)
    return brought


def _link(file: Path, other: Path) -> None:
    """Another name for a file; a copy where the file system knows no such thing."""
    try:
        other.hardlink_to(file)
    except OSError:
        shutil.copy2(file, other)


def export(warehouse: Warehouse, outputs: Mapping[str, Output], output_dir: Path, emit: Emit) -> list[Path]:
    """Writes every file that `outputs` asks for, ordered by key, and returns their paths.

    A file is replaced only by a whole new one. Raises ConfigError and PublishError as publishing does, StorageError
    when a file cannot be written.
    """
    wanted = {mart: output for mart, output in outputs.items() if output.export}
    if not wanted:
        return []
    if not warehouse.exists():
        raise PublishError("there is no warehouse yet", where=str(warehouse), fix="ingest and build first")
    written = []
    with open_warehouse(warehouse, read_only=True) as source:
        for mart, candidate in candidates.describe(source, wanted).items():
            emit(Event("started", STAGE, mart))
            candidates.refuse_flaws(source, candidate, candidate.relation)
            files = _export_mart(source, candidate, output_dir)
            emit(Event("finished", STAGE, mart, counts={"files": len(files)}))
            written += files
    return written


def _export_mart(source: "duckdb.DuckDBPyConnection", candidate: Candidate, output_dir: Path) -> list[Path]:
    export_to = candidate.output.export
    assert export_to is not None
    writers = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}
    files = []
    for extension in dict.fromkeys(export_to.formats):
        file = output_dir / f"{candidate.mart}.{extension}"
        with _replacing(file) as unfinished:
            writers[extension](source, candidate, unfinished)
        files.append(file)
    return files


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, which takes its place when all is on the disk."""
    import duckdb

    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        for path in (unfinished, file.parent):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if path is unfinished:
                failpoint("export.synced")
                unfinished.replace(file)
                failpoint("export.replaced")
    except (OSError, duckdb.IOException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StorageError(
            f"the export cannot be written: {reason}",
            where=str(file),
            fix="free some space or mend the permissions, then run again; the file before is still there",
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _write_csv(source: "duckdb.DuckDBPyConnection", candidate: Candidate, file: Path) -> None:
    assert candidate.output.export is not None
    headings = candidate.output.export.columns or {column.name: column.name for column in candidate.columns}
    is_safe = candidate.output.export.neutralise_formulas
    values = {name: _csv_value(candidate.column(name), is_safe=is_safe) for name in headings}
    selected = [f"{values[name]} as {quote_identifier(heading)}" for name, heading in headings.items()]
    _copy(source, f"select {', '.join(selected)} {_ordered(candidate)}", file, "format csv, header true")


def _write_parquet(source: "duckdb.DuckDBPyConnection", candidate: Candidate, file: Path) -> None:
    _copy(source, f"select * {_ordered(candidate)}", file, "format parquet, compression zstd")


def _write_json(source: "duckdb.DuckDBPyConnection", candidate: Candidate, file: Path) -> None:
    """The warehouse makes the text of each record; a batch of texts is one piece of memory, written as it is."""
    # The rows are put in order before their text is made, which is many times as long.
    rows = f"(select * {_ordered(candidate)})"
    reader = source.execute(f"select {_json_record(candidate)} from {rows}").to_arrow_reader(_BATCH_ROWS)
    with file.open("wb") as out:
        out.write(b"[")
        skipped = len(",")  # every record starts with the comma that parts it from the one before
        for batch in reader:
            for text in _texts(batch.column(0)):
                out.write(text[skipped:])
                skipped = 0
        out.write(b"]\n" if skipped else b"\n]\n")


def _texts(array: object) -> Iterator[memoryview]:
    """The bytes of all strings of an Arrow array, one after the other, without a look at each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    strings = pc.cast(array, pa.large_string())
    if len(strings) == 0:
        return
    _, offsets, values = strings.buffers()
    ends = memoryview(offsets).cast("q")
    yield memoryview(values)[ends[strings.offset] : ends[strings.offset + len(strings)]]


def _copy(source: "duckdb.DuckDBPyConnection", query: str, file: Path, options: str) -> None:
    source.execute(f"copy ({query}) to {quote_literal(str(file))} ({options}, use_tmp_file false)")


def _ordered(candidate: Candidate) -> str:
    return f"from {candidate.relation} order by {', '.join(quote_identifier(name) for name in candidate.output.key)}"


def _csv_value(column: Column, *, is_safe: bool) -> str:
    if column.postgres_type == "boolean":
        return f"case when {column.quoted} then 'Yes' when not {column.quoted} then 'No' end"
    if column.postgres_type == "jsonb":
        return column.as_json
    if column.postgres_type == "text" and is_safe:
        text = f"{column.quoted}::varchar"
        is_formula = f"regexp_matches({text}, {quote_literal(_FORMULA)}) and try_cast({text} as double) is null"
        return f"case when {is_formula} then chr(39) || {text} else {text} end"
    return _iso_text(column) if column.postgres_type.startswith("timestamp") else column.quoted


def _iso_text(column: Column) -> str:
    text = f"{column.quoted}::varchar"
    if column.postgres_type.startswith("timestamp"):
        return f"regexp_replace(regexp_replace({text}, '^(\\S+) (\\d\\S+)$', '\\1T\\2'), '\\+00$', 'Z')"
    return text


def _json_record(candidate: Candidate) -> str:
    newline = "chr(10)"
    fields = [
        f"{quote_literal('    ' + _json_name(column.name) + ': ')} || coalesce({_json_value(column)}, 'null')"
        for column in candidate.columns
    ]
    joined = f" || ',' || {newline} || ".join(fields)
    return f"',' || {newline} || '  {{' || {newline} || {joined} || {newline} || '  }}'"


def _json_name(name: str) -> str:
    import json

    return json.dumps(name, ensure_ascii=False)


def _json_value(column: Column) -> str:
    if column.postgres_type == "jsonb":
        return _indented(column.as_json)
    if column.postgres_type in ("real", "double precision"):
        return f"case when isfinite({column.quoted}) then {column.quoted}::varchar end"  # JSON has no infinity
    if column.postgres_type in ("smallint", "integer", "bigint", "numeric", "boolean"):
        return f"{column.quoted}::varchar"
    return f"to_json({_iso_text(column)})::varchar"


def _indented(json_text: str) -> str:
    """SQL of JSON text on several lines, two spaces a level, as the value of a record's field.

    json_pretty() reads numbers as floats, so they travel through it as texts between marks and keep every digit.
    """
    mark = uuid.uuid4().hex
    string_or_number = r'("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]*)'
    # Control characters cannot be in JSON text, so a pair of them around nothing is what a string leaves.
    marked = f"regexp_replace({json_text}, {quote_literal(string_or_number)}, '\\1' || chr(1) || '\\2' || chr(2), 'g')"
    marked = f"replace({marked}, chr(1) || chr(2), '')"
    marked = f"""replace(replace({marked}, chr(1), '"{mark}'), chr(2), '{mark}"')"""
    pretty = f"""replace(replace(json_pretty({marked}), '"{mark}', ''), '{mark}"', '')"""
    # Newlines within strings are escaped, so each line starts with its indent: four spaces a level.
    line = "repeat(' ', (length(line) - length(ltrim(line, ' '))) // 2) || ltrim(line, ' ')"
    lines = f"list_transform(string_split({pretty}, chr(10)), lambda line: {line})"
    return f"array_to_string({lines}, chr(10) || '    ')"
