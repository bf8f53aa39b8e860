"""What of the project a run ran with: its commit, and its models whether they are committed or not."""

import hashlib
import subprocess
from pathlib import Path

GIT_SECONDS = 10
_OF_MODELS = {".sql", ".yml", ".yaml", ".csv", ".py"}


def git_commit(root: Path) -> str | None:
    """The commit checked out at `root`, with -dirty behind it where files differ from it; None where git cannot say."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


def models_hash(root: Path) -> str:
    """SHA-256 over names and contents of all that dbt builds the marts from: models, macros, seeds, variables."""
    found = [root / "dbt_project.yml", *(root / "dbt_project").rglob("*")]
    digest = hashlib.sha256()
    for file in sorted(file for file in found if file.suffix in _OF_MODELS and file.is_file()):
        digest.update(
            f"{file.relative_to(root).as_posix()}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()
