"""Dead letters of many records at a time: a file of which every record is bad is read as fast as any."""

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.parcels import DEAD_LETTER_SCHEMA, LONGEST_RECORD_KEPT, Parcel, ParcelDraft
from ingestion.readers.json_files.judge import Verdicts
from ingestion.readers.json_files.records import Records

# What is not in the table of letters. The id is the one that `ParcelDraft` gives.
_EXPRESSIONS = {
    "dead_letter_id": "sha256(concat_ws(chr(0), $_source, $_content_hash, line, byte_offset, reason))[:32]",
    "load_id": "$_load_id",
    "run_id": "$_run_id",
    "source": "$_source",
    "stage": "'parse'",
    "location": "$_location",
    "content_hash": "$_content_hash",
    "page": "null::bigint",
    "attempts": "1::bigint",
    "occurred_at": "$_loaded_at",
}


def add_letters(
    connection: duckdb.DuckDBPyConnection,
    draft: ParcelDraft,
    parcel: Parcel,
    records: Records,
    verdicts: Verdicts,
    offset: int,
) -> Parcel:
    """`parcel` with a letter for each record that has a fault. `offset` is the place of the text in the file."""
    bad = verdicts.bad()
    if not bad.size:
        return parcel
    chosen, codes = records[bad], pa.array(verdicts.codes[bad])
    undecodable = [code for code, fault in enumerate(verdicts.faults) if fault.reason == "not_utf8"]
    texts, originals = _texts(chosen, ~np.isin(verdicts.codes[bad], undecodable))
    columns = {
        "line": chosen.numbers,
        "byte_offset": chosen.starts + offset,
        "byte_length": chosen.length(),
        "reason": pa.DictionaryArray.from_arrays(codes, pa.array([fault.reason for fault in verdicts.faults])),
        "message": pa.DictionaryArray.from_arrays(codes, pa.array([fault.message for fault in verdicts.faults])),
        "record": texts,
        "record_bytes": originals,
    }
    connection.register("letters", pa.table(columns))
    names = ", ".join(f"{_EXPRESSIONS.get(name, name)} as {name}" for name in DEAD_LETTER_SCHEMA.names)
    table = connection.execute(f"select {names} from letters", draft.lineage()).to_arrow_table()
    load = parcel.loads[0]
    letters = len(bad) + load.records_dead_lettered
    load = replace(load, records_read=load.records_read + len(bad), records_dead_lettered=letters)
    return replace(parcel, loads=[load], dead_letters=table.cast(DEAD_LETTER_SCHEMA))


def _texts(records: Records, is_text: NDArray[np.bool_]) -> tuple[pa.Array, pa.Array]:
    """The records as text, and as bytes where the text is not the same byte for byte; long ones cut."""
    is_plain = is_text & (records.length() <= LONGEST_RECORD_KEPT)
    plain, others = np.flatnonzero(is_plain), np.flatnonzero(~is_plain)
    if not others.size:
        return records.array(), pa.nulls(len(records), pa.binary())
    kept = [records.text(index, LONGEST_RECORD_KEPT) for index in others.tolist()]
    readable = [text.decode(errors="backslashreplace").replace("\0", "\\x00") for text in kept]
    exact = [None if same.encode() == text else text for same, text in zip(readable, kept, strict=True)]
    back = pa.array(np.argsort(np.concatenate([plain, others])))
    texts = pa.concat_arrays([records[plain].array().cast(pa.large_string()), pa.array(readable, pa.large_string())])
    originals = pa.concat_arrays([pa.nulls(len(plain), pa.large_binary()), pa.array(exact, pa.large_binary())])
    return texts.take(back), originals.take(back)
