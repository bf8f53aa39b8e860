"""What a kind is asked for: how many rounds, short or whole, by which seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.chaos.engine import Engine

One = TypeVar("One")


@dataclass
class Context:
    """The engine, and how much of a kind is wanted. `rounds` is the number asked for, where one was."""

    engine: Engine
    is_short: bool
    rounds: int | None
    say: Callable[[str], None]

    @property
    def is_whole(self) -> bool:
        """Whether everything of a kind is wanted."""
        return not self.is_short and self.rounds is None

    def count(self, whole: int, short: int) -> int:
        """How many rounds."""
        return self.rounds if self.rounds is not None else short if self.is_short else whole

    def chosen(self, cases: Sequence[One], kind: str, *, short: int) -> list[One]:
        """All cases; or so many as are wanted, chosen by the seed, in their order."""
        count = min(len(cases), self.count(len(cases), short))
        places = sorted(self.engine.chance("chosen", kind).sample(range(len(cases)), count))
        return [cases[place] for place in places]

    def taking_turns(self, ways: Sequence[One], place: int) -> Sequence[One]:
        """All ways to do a case; of a selection each case in one of them."""
        return ways if self.is_whole else [ways[place % len(ways)]]
