"""Progress where there is no terminal: few lines, and never a long silence."""

import io
import time

import pytest
from rich.console import Console

from foundation.events import Event
from operations import progress as module
from operations.progress import progress


def test_a_long_ingest_gives_a_line_a_source_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOURCE_SECONDS", 0.3)
    out = io.StringIO()
    with progress(Console(file=out, width=200), 50) as emit:
        emit(Event("started", "ingest"))
        for part in ("a", "b"):
            emit(Event("started", "ingest", "hr__x", partition=part))
            for read in range(100):
                emit(Event("progressed", "ingest", "hr__x", "", {"read": read}, part))
        time.sleep(0.35)
        emit(Event("progressed", "ingest", "hr__x", "", {"read": 101}, "b"))
        emit(Event("progressed", "ingest", "hr__x", "", {"read": 102}, "b"))
        emit(Event("finished", "ingest", "hr__x", "", {"read": 201}))
        emit(Event("finished", "ingest", None, "", {"read": 201}))
    lines = [line for line in out.getvalue().splitlines() if "goes on" not in line]
    assert lines == [
        "ingest started",
        "ingest hr__x a started",
        "ingest hr__x b started",
        "ingest hr__x progressed: 200 read",
        "ingest hr__x finished: 201 read",
        "ingest finished: 201 read",
    ]


def test_a_silent_stage_says_that_it_goes_on_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOURCE_SECONDS", 0.1)
    out = io.StringIO()
    with progress(Console(file=out, width=200), 50) as emit:
        emit(Event("started", "ingest"))
        emit(Event("progressed", "ingest", "hr__x", "", {"read": 7}))
        time.sleep(0.35)
        emit(Event("finished", "ingest"))
        time.sleep(0.25)
    first, *silent, last = out.getvalue().splitlines()
    assert (first, last) == ("ingest started", "ingest finished")
    assert silent[0] == "ingest goes on since 0 s: 7 read"
    assert len(silent) in (1, 2, 3)
