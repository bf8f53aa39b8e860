"""Whole projects of a bench: what every project needs, with the models and suites of a template on top."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import ROOT

TEMPLATES = ROOT / "benchmarks" / "templates"
_NEEDED = (
    "dbt_project.yml",
    "profiles.yml",
    "dbt_project/macros",
    "dbt_project/plugins",
    "dbt_project/tests/generic",
    "dbt_project/models/staging/ingestion",
    *(f"expectations/{name}.py" for name in ("__init__", "checks", "duckdb_engine", "gates", "history", "measure")),
    *(f"expectations/suites/{name}.py" for name in ("__init__", "_marts", "_raw", "loads")),
)


def make_project(folder: Path, template: str, settings: Mapping[str, Any]) -> None:
    """A project with the models and gates of a template; `settings` is its penstock.yml."""
    for name in _NEEDED:
        original, copy = ROOT / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if original.is_dir():
            shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(original, copy)
    document = yaml.safe_dump(dict(settings), sort_keys=False)
    (folder / "penstock.yml").write_text(document, encoding="utf-8")
    original = TEMPLATES / template
    shutil.copytree(original, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
