"""The benches: each module here is one, and gives what `Bench` asks for.

The name of the module is the name of the bench.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from benchmarks.data import Dataset, Format, make_dataset
from benchmarks.measure import Plan, Subject
from benchmarks.peers import Peers


@dataclass(frozen=True)
class Context:
    """What a bench needs to make its subjects; what it starts goes on `stack` and ends with the bench."""

    rows: int
    sizes: Sequence[int]
    concurrency: int
    data_dir: Path
    plan: Plan
    peers: Peers
    stack: ExitStack
    wanted: Sequence[str] = field(default=())

    def dataset(self, format: Format, rows: int, *, malformed: float = 0.0, page_size: int = 1000) -> Dataset:
        """Generated records, from the cache where they are there."""
        self.plan.say(f"data: {rows:,} records as {format}")
        return make_dataset(self.data_dir, format, rows, malformed=malformed, page_size=page_size)

    def postgres(self) -> str:
        """The address of the embedded Postgres, which starts with its first use and is removed after the bench."""
        from publishing import embedded

        folder = self.plan.folder / "postgres"
        if not embedded.is_running(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.stack.callback(embedded.delete, folder)
        return embedded.start(folder)

    def wants(self, name: str) -> bool:
        """Whether a subject is to be run: all are, unless some were named."""
        return not self.wanted or name in self.wanted


class Bench(Protocol):
    """What a module of this package gives; `AGAINST` names the subject whose time is 1, `ORDER` its place."""

    TITLE: str
    ORDER: int
    AGAINST: str

    def subjects(self, context: Context) -> list[Subject]:
        """The subjects, made ready."""


def find_benches() -> dict[str, Bench]:
    """Every bench by its name, in their order."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    found = {name: cast(Bench, importlib.import_module(f"{__name__}.{name}")) for name in names}
    return dict(sorted(found.items(), key=lambda one: one[1].ORDER))
