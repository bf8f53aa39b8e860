"""Imports that libraries try on their own account, and that a process has no use for."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class _Refusal:
    """A finder of modules that finds one of them nowhere."""

    name: str

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"{name} is not imported in this process", name=name)


def refuse_import(name: str) -> None:
    """Make `import name` fail in this process, as if it were not installed."""
    sys.meta_path.insert(0, _Refusal(name))
