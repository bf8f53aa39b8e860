"""The salvage of doubtful CSV lines, where the machine and not the file is at fault."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

from ingestion.readers.csv_files.parse import StrictParse, Table
from ingestion.readers.csv_files.salvage import _Salvage
from ingestion.readers.framing import Lines


def test_good_records_are_not_set_aside_for_want_of_memory(tmp_path: Path) -> None:
    data = b'1,"a"\n' * 2000
    with duckdb.connect(config={"threads": 1, "memory_limit": "1MB"}) as connection:
        work = _Salvage(
            StrictParse(connection, Table(["a", "b"]), tmp_path / "a.csv"), Lines(data), 1, np.ones(2000, bool)
        )
        with pytest.raises(duckdb.OutOfMemoryException):
            work.rows({})
    assert not work.aside
