"""A file of corrected letters: read by the readers of sources, so that no line of it is lost without a word."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from foundation.errors import ConfigError, PenstockError
from foundation.sources import CsvSource, JsonSource
from ingestion.packages import ParquetWriter
from ingestion.parcels import Batch, Parcel
from ingestion.readers.csv_files.files import read_csv_file
from ingestion.readers.json_files.files import read_json_file
from ingestion.stores import StoredFile
from operations.letters.commands import AS_FORMULA, FORMATS

NEEDED = ("letter_id", "record")
MOST_TOLD = 3


def read_corrections(file: Path, folder: Path) -> Path:
    """`file` as a parquet file in `folder`: letter_id, record, file_line.

    Raises ConfigError for a file that is not there, is empty, lacks a column, or has a line that cannot be read.
    """
    if file.suffix.lower() not in FORMATS:
        raise ConfigError(f"{file.name} does not say its form", fix=f"end it in {', '.join(FORMATS)}")
    if not file.is_file():
        raise ConfigError(f"there is no file {file}", fix="penstock deadletters export --to FILE writes one")
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("letter_id", pa.string()), ("record", pa.large_string()), ("file_line", pa.int64())])
    read = folder / "corrections.parquet"
    count = 0
    with ParquetWriter(read, schema) as writer:
        try:
            for parcel in _parcels(file, folder):
                _refuse_unreadable(parcel, file)
                if parcel.rows is not None:
                    table = _corrections(parcel, file).cast(schema)
                    count += table.num_rows
                    writer.write_table(table)
        except PenstockError as error:
            raise ConfigError(error.what, where=error.where or str(file), fix=_NOTHING_DONE) from error
        except (OSError, EOFError) as error:
            raise ConfigError(f"it cannot be read: {error}", where=str(file), fix=_NOTHING_DONE) from error
    if not count:
        raise ConfigError("it holds no letters", where=str(file), fix=_NOTHING_DONE)
    return read


_NOTHING_DONE = "nothing was replayed; mend the file, or export it anew"


def _parcels(file: Path, folder: Path) -> Iterator[Parcel]:
    batch = Batch("", datetime.now(UTC), folder)
    stored = StoredFile(file, str(file))
    if file.suffix.lower() == ".csv":
        source = CsvSource(type="csv", path="", columns=[], header=True, quote='"')
        return read_csv_file(stored, "corrections", source, None, batch, lambda _: None)
    return read_json_file(stored, "corrections", JsonSource(type="json", path="", format="lines"), None, batch)


def _refuse_unreadable(parcel: Parcel, file: Path) -> None:
    if parcel.dead_letters is None:
        return
    faults = parcel.dead_letters.select(["line", "message"]).slice(0, MOST_TOLD).to_pylist()
    told = "; ".join(f"line {fault['line']}: {fault['message']}" for fault in faults)
    rest = parcel.dead_letters.num_rows - len(faults)
    raise ConfigError(told + (f"; and {rest} more" if rest > 0 else ""), where=str(file))


def _corrections(parcel: Parcel, file: Path) -> pa.Table:
    rows = parcel.rows
    assert rows is not None
    if list(parcel.row_columns) == ["record"] and file.suffix.lower() != ".csv":
        rows = _fields(rows)
    lines = rows["_line"]
    missing = [name for name in NEEDED if name not in rows.column_names]
    if missing:
        raise ConfigError(f"it has no column {', '.join(missing)}", where=str(file))
    for name in NEEDED:
        empty = pc.fill_null(pc.is_null(rows[name]), fill_value=True)
        if pc.any(empty).as_py():
            line = lines.filter(empty)[0].as_py()
            raise ConfigError(f"line {line}: {name} is empty, missing or no text", where=str(file))
    record = rows["record"].cast(pa.large_string())
    if file.suffix.lower() == ".csv":  # the ' that keeps a spreadsheet from taking it for a formula
        record = pc.replace_substring_regex(record, f"^'({AS_FORMULA})", r"\1")
    return pa.table({"letter_id": rows["letter_id"], "record": record, "file_line": lines})


def _fields(rows: pa.Table) -> pa.Table:
    """Id and record of each line; null where it has none or it is no text."""
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("found", rows.select(["record", "_line"]))
        texts = ", ".join(
            f"case when json_type(record, '$.{name}') = 'VARCHAR' then record ->> '$.{name}' end as {name}"
            for name in NEEDED
        )
        return connection.execute(f"select {texts}, _line from found order by _line").to_arrow_table()
