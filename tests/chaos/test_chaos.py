"""The fault suite itself: every failpoint has a name of its own and does what it says; its kinds can be told apart."""

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.chaos import library_points
from tests.chaos.__main__ import KINDS
from tests.chaos.broken_files import csv_cases, json_cases
from tests.chaos.guards import REMOVALS
from tests.chaos.kinds import guards
from tests.chaos.points import ROLLBACK, WORKERS, find_failpoints
from tests.conftest import ROOT

PASSES = """
from foundation.failpoints import failpoint
for number in range(3):
    failpoint("one")
    print(number, flush=True)
    failpoint("other")
"""


def passed(failpoint: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PASSES],
        cwd=ROOT,
        env=os.environ | {"PENSTOCK_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_failpoint_has_a_name_of_its_own() -> None:
    names = find_failpoints()
    assert len(names) >= 40
    assert len(set(names)) == len(names)
    assert set(names) >= WORKERS | ROLLBACK
    assert all(name.count(".") == 1 and name == name.lower() for name in names)
    assert not set(names) & set(library_points.NAMES)


def test_failpoints_that_nobody_asks_for_do_nothing() -> None:
    assert passed("").stdout.split() == ["0", "1", "2"]
    assert passed("a third").returncode == 0


@pytest.mark.parametrize(("asked", "printed"), [("one", 0), ("one:3", 2), ("other", 1), ("other:2", 2)])
def test_a_failpoint_kills_at_the_passing_that_is_asked_for(asked: str, printed: int) -> None:
    done = passed(asked)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) == printed


def test_a_failpoint_raises_where_an_error_is_asked_for() -> None:
    done = passed("one:2:error")
    assert done.returncode == 1
    assert "OSError: [Errno 5] failpoint one" in done.stderr


def test_the_steps_inside_dlt_are_there() -> None:
    subprocess.run(
        [sys.executable, "-c", "from tests.chaos import library_points; library_points.install()"], cwd=ROOT, check=True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is_and_has_rounds(kind: str) -> None:
    module = import_module(f"tests.chaos.kinds.{kind}")
    assert module.__doc__.startswith(f"{KINDS.index(kind) + 1}. ")
    assert module.TITLE
    assert callable(module.rounds)
    assert len(Path(module.__file__ or "").read_text().splitlines()) <= 300


def test_there_are_malformed_files_enough() -> None:
    assert len(csv_cases()) >= 60
    assert len(json_cases()) >= 40


def test_every_guard_that_can_be_taken_out_has_a_round_that_misses_it() -> None:
    assert len(guards.CASES) >= 10
    assert set(REMOVALS) <= set(guards.CASES)
