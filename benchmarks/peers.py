"""Two programs of others that load CSV into Postgres, in a virtual environment of their own below the data folder."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Command

PACKAGES = ("ingestr==0.15.9", "sling==1.4.5")


@dataclass(frozen=True)
class Peers:
    """Where the programs are installed, or would be."""

    folder: Path

    @property
    def home(self) -> Path:
        """Their home folder, where they keep what they please."""
        return self.folder / "home"

    def program(self, name: str) -> Path:
        """Where the program is, once it is installed."""
        return self.folder / "bin" / name

    def command(self, name: str, *arguments: str) -> Command:
        """The program with its arguments, with a home folder of its own."""
        return Command((str(self.program(name)), *arguments), {"HOME": str(self.home)})

    def install(self) -> None:
        """Install both where they are not; this alone needs the network. Raises RuntimeError with what went wrong."""
        if all(self.program(package.partition("==")[0]).exists() for package in PACKAGES):
            return
        commands = [
            [sys.executable, "-m", "venv", str(self.folder)],
            [str(self.folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"the peers cannot be installed: {done.stderr.strip()[-500:]}")
        self.home.mkdir(exist_ok=True)
