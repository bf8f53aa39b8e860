"""The rules of style and structure that can be checked."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PACKAGES = ("foundation", "ingestion", "expectations", "publishing", "operations", "sample_data", "benchmarks")
# What each package may import; operations stands on top of all.
MAY_IMPORT = {
    "foundation": set(),
    "sample_data": set(),
    "ingestion": {"foundation"},
    "expectations": {"foundation"},
    "publishing": {"foundation"},
    "operations": {"foundation", "ingestion", "expectations", "publishing", "sample_data"},
    # It drives the rest from outside, as a user does; to call publish() takes the settings of an output.
    "benchmarks": {"foundation", "publishing"},
}
MODULES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "templates" not in path.parts  # what lies there is another project's
)
LONGEST_MODULE = 460  # lines; more is two rooms in one


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """dbt's own view of the project."""
    target = tmp_path_factory.mktemp("dbt")
    arguments = ["parse", "--target-path", str(target), "--log-path", str(target), "--quiet", "--no-partial-parse"]
    subprocess.run([str(Path(sys.executable).parent / "dbt"), *arguments], cwd=ROOT, check=True)
    return dict(json.loads((target / "manifest.json").read_text()))


def _models(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_point_down_and_never_in_a_circle(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert imported & set(PACKAGES) - {package} <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_class_and_public_function_says_its_purpose(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "the module has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = "import operations.cli, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"dlt", "dbt", "great_expectations", "duckdb", "pyarrow", "pandas", "numpy", "psycopg", "httpx", "jinja2"}
    assert not heavy & set(done.stdout.split())


def test_a_file_is_ingested_without_the_imports_that_it_has_no_use_for(tmp_path: Path) -> None:
    (tmp_path / "penstock.yml").write_text("sources: {hr__people: {type: csv, path: people.csv}}")
    (tmp_path / "people.csv").write_text("id\n1\n")
    command = [sys.executable, "-X", "importtime", "-m", "operations.cli", "--root", str(tmp_path), "ingest"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert {"dlt", "duckdb", "pyarrow"} <= imported
    assert imported & {"pandas.core", "sqlalchemy", "great_expectations", "dbt", "psycopg", "httpx", "s3fs"} == set()


def test_models_lie_in_the_folder_of_their_prefix(manifest: dict[str, Any]) -> None:
    for model in _models(manifest):
        layer, domain, *_ = Path(model["original_file_path"]).relative_to("dbt_project/models").parts
        prefix = {"staging": "stg_", "intermediate": f"int_{domain}__", "marts": ""}[layer]
        assert model["name"].startswith(prefix), model["name"]


def test_models_read_only_the_layer_above(manifest: dict[str, Any]) -> None:
    above = {"staging": {"source", "staging"}, "intermediate": {"staging", "intermediate", "seed"}}
    above["marts"] = {"intermediate", "marts", "seed"}
    for model in _models(manifest):
        layer = Path(model["original_file_path"]).relative_to("dbt_project/models").parts[0]
        for parent in model["depends_on"]["nodes"]:
            kind = parent.split(".")[0]
            if kind == "model":
                kind = Path(manifest["nodes"][parent]["original_file_path"]).relative_to("dbt_project/models").parts[0]
            assert kind in above[layer], f"{model['name']} reads {parent}"


def test_every_model_is_described_with_its_grain_and_has_a_tested_key(manifest: dict[str, Any]) -> None:
    tested = {
        parent
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and "test_metadata" in node
        if node["test_metadata"]["name"] in ("unique", "primary_key", "unique_combination", "settled")
        for parent in node["depends_on"]["nodes"]
    }
    for model in _models(manifest):
        assert re.search(r"\bOne row per .+", model["description"]), model["name"]
        is_passed_on = "/intermediate/" in model["original_file_path"] and model["config"]["materialized"] == "view"
        is_passed_on |= "with_repeats" in model["tags"]  # the incremental model on top leaves them out, and has the key
        is_passed_on |= "tested_in_parts" in model["tags"]  # a view over tables that have the key
        assert model["unique_id"] in tested or is_passed_on, f"{model['name']} has no test of its key"


def test_marts_have_contracts_and_described_columns(manifest: dict[str, Any]) -> None:
    for model in _models(manifest):
        if model["original_file_path"].startswith("dbt_project/models/marts/"):
            assert model["config"]["contract"]["enforced"], model["name"]
            assert all(column["description"] for column in model["columns"].values()), model["name"]


def test_models_name_no_engine(manifest: dict[str, Any]) -> None:
    for model in _models(manifest):
        assert not re.search(r"duckdb|postgres|spark", model["raw_code"], re.IGNORECASE), model["name"]


def test_every_source_has_its_life_under_one_name(manifest: dict[str, Any]) -> None:
    import yaml

    declared = yaml.safe_load((ROOT / "penstock.yml").read_text())["sources"]
    tables = {source["identifier"] for source in manifest["sources"].values()}
    models = {model["name"] for model in _models(manifest)}
    for name in declared:
        assert name in tables
        assert f"stg_{name}" in models
        assert (ROOT / "expectations" / "suites" / f"{name}.py").exists()


def test_every_source_table_has_its_freshness(manifest: dict[str, Any]) -> None:
    for source in manifest["sources"].values():
        if "__" in source["identifier"] and not source["identifier"].startswith("_dlt"):
            assert source["freshness"]["warn_after"]["count"], source["identifier"]


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_the_tree_speaks_of_the_project_alone() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    unfinished = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError")
    for name in listed:
        path = ROOT / name
        if (
            path.suffix in (".py", ".sql", ".yml", ".md", ".j2")
            and name != "tests/test_conventions.py"
            and path.exists()
        ):
            assert not unfinished.search(path.read_text()), name
