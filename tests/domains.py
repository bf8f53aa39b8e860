"""A project with some of its domains only: most tests need one, and each of the others would cost them a build."""

import re
import shutil
from collections.abc import Collection
from pathlib import Path

import yaml

OF_EVERY_DOMAIN = "ingestion"  # the models over raw.loads


def keep_domains(root: Path, names: Collection[str]) -> None:
    """Take every other domain out of the project in `root`: its entries, models, suites and sample data."""
    for staging in sorted((root / "dbt_project" / "models" / "staging").iterdir()):
        if staging.name not in {*names, OF_EVERY_DOMAIN}:
            _remove(root, staging.name)


def _remove(root: Path, domain: str) -> None:
    models = root / "dbt_project" / "models"
    tables = yaml.safe_load((models / "staging" / domain / f"_{domain}__sources.yml").read_text())
    entries = [table["name"] for source in tables["sources"] for table in source["tables"]]
    entries += [model.stem for model in (models / "marts" / domain).glob("*.sql")]
    settings = root / "penstock.yml"
    text = settings.read_text()
    for name in entries:
        text = re.sub(rf"^  {name}:.*\n(?:    .*\n)*", "", text, flags=re.MULTILINE)
        (root / "expectations" / "suites" / f"{name}.py").unlink(missing_ok=True)
    settings.write_text(text)
    folders = [models / layer / domain for layer in ("staging", "intermediate", "marts")]
    folders += [root / "dbt_project" / kind / domain for kind in ("seeds", "tests")]
    for folder in [*folders, root / "sample_data" / domain]:
        shutil.rmtree(folder, ignore_errors=True)
