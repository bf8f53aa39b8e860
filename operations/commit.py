"""The commit of the project that a run ran with."""

import subprocess
from pathlib import Path

GIT_SECONDS = 10


def git_commit(root: Path) -> str | None:
    """The commit checked out at `root`, with -dirty behind it where files differ from it; None where git cannot say."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
