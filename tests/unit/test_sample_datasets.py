"""The sample catalogue: the same bytes everywhere, with the oddities of a real registry in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sample_data.datasets import FOLDER, generate, main
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """The committed records."""
    return [json.loads(line) for line in (FOLDER / "datasets.ndjson").read_text(encoding="utf-8").splitlines()]


def test_committed_files_are_what_the_generator_writes() -> None:
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == dict(generate())


def test_hash_seed_and_locale_change_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "4711", "LC_ALL": "C", "TZ": "Asia/Kolkata", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "sample_data.datasets", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict(generate())


def test_another_seed_gives_other_data_sets(tmp_path: Path) -> None:
    main(["--seed", "7", "--out", str(tmp_path)])
    assert (tmp_path / "datasets.ndjson").read_bytes() != (FOLDER / "datasets.ndjson").read_bytes()


def test_every_slug_is_there_once_and_every_oddity_at_all(records: list[dict[str, Any]]) -> None:
    expected = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    slugs = [record["slug"] for record in records]
    assert len(slugs) == len(set(slugs)) == expected["listed"] == 120
    assert set(expected["rejected"]) < set(slugs)
    assert all(expected["oddities"].values())
    assert len({rule for rules in expected["rejected"].values() for rule in rules}) == 5
