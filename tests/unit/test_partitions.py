"""The parts that a source is read in."""

from datetime import date

from foundation.sources import Partitions


def test_a_range_may_lie_below_zero_and_end_there() -> None:
    parts = Partitions.model_validate({"by": "range", "start": -10, "stop": 0, "step": 5}).parts(date(2026, 1, 1))
    assert [name for name, _ in parts] == ["-10 to -6", "-5 to -1"]
