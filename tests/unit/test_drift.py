"""Schema drift, told and set aside for several sources at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from foundation.sources import JsonSource
from ingestion.drift import SchemaContract
from ingestion.parcels import Batch, Parcel, ParcelDraft
from ingestion.state import SourceState


def parcel_of(source: str, batch: Batch, count: int) -> Parcel:
    """A parcel of records that hold the name of their source in a field that was a number before."""
    draft = ParcelDraft(batch, source, "json", f"{source}.json", source)
    draft.add_rows(pa.table({"record": [f'{{"a": "{source}"}}'] * count}), 1)
    parcel = draft.seal(columns=["record"], size_bytes=1, position_bytes=1, lines=count)
    return replace(parcel, loads=[replace(load, fields='{"a": ["string"]}') for load in parcel.loads])


def test_letters_of_sources_read_side_by_side_hold_their_own_records(tmp_path: Path) -> None:
    batch = Batch("run", datetime(2026, 1, 1, tzinfo=UTC), tmp_path)
    settings = JsonSource(type="json", path="*.json", schema_drift="dead_letter")

    def check(number: int) -> list[tuple[str, str, int]]:
        source = f"shop__things_{number}"
        state = SourceState(fields={f"{source}.json": {"a": ["number"]}})
        checked = SchemaContract(source, settings, state).check(parcel_of(source, batch, 100 + number), lambda *_: None)
        assert checked.dead_letters is not None
        letters = checked.dead_letters
        return [(source, record, letters.num_rows) for record in set(letters["record"].to_pylist())]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(check, range(60)))
    assert found == [
        [(name, f'{{"record":"{{\\"a\\": \\"{name}\\"}}"}}', 100 + number)]
        for number, name in ((number, f"shop__things_{number}") for number in range(60))
    ]
