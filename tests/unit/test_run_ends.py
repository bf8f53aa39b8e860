"""How a run ends by what its stages raise or note."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from foundation.errors import SourceError
from operations.run import _do
from operations.stages import Request
from operations.summary import RunRecord


class Ingest:
    """A run of one stage, which notes an error of a source and may raise one."""

    def __init__(self, record: RunRecord, raised: Exception | None) -> None:
        self.record, self.raised = record, raised

    def ingest(self) -> None:
        """The stage."""
        if self.raised:
            raise self.raised
        self.record.counts = {"a__b": {"read": 0}, "a__c": {"read": 2}}
        self.record.source_errors = {"a__b": ["answered 500"]}


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(None, ("partial", 4, [])), (SourceError("no such folder"), ("failed", 4, ["no such folder"]))],
)
def test_an_error_of_a_source_that_a_stage_raises_is_told(raised: Exception | None, expected: tuple[Any, ...]) -> None:
    record = RunRecord("run-1", "ingest", datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1))
    stages: Any = Ingest(record, raised)
    _do(stages, Request("ingest", ["ingest"]), record)
    assert (record.status, record.exit_code, record.errors) == expected
