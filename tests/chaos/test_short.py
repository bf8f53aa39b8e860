"""The short form of the fault suite, as `make chaos ARGS=--short` runs it, with a seed that stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import KINDS
from tests.conftest import ROOT

LONGEST = 1800  # seconds; it takes less than 300 on two cores of its own


@pytest.mark.skipif(
    "CHAOS" not in os.environ, reason="it takes five minutes: CHAOS=1 make test, or make chaos ARGS=--short"
)
def test_the_short_form_finds_no_violation(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--short", "--seed", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("0 violations")
    found = json.loads((tmp_path / "short.json").read_text())
    assert [kind["kind"] for kind in found["kinds"]] == list(KINDS)
    # Only root may make a small disk.
    assert all(kind["rounds"] for kind in found["kinds"] if kind["kind"] != "disk_full")
