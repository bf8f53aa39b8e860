"""The failpoints that the code has, by looking at it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# In the workers: the run outlives them and tells it.
WORKERS = {"dbt.begun", "dbt.model_built", "dbt.ended", "gate.measured"}
ROLLBACK = {"rollback.table_restored", "rollback.before_commit", "rollback.after_commit"}


def find_failpoints() -> list[str]:
    """The name of every call of failpoint() in the product, in the order of the files."""
    found = []
    for package in ("foundation", "ingestion", "operations", "publishing"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                    (argument,) = node.args
                    assert isinstance(argument, ast.Constant), f"{path.name}: a failpoint's name is written out"
                    found.append(str(argument.value))
    return found
