"""What a stage tells the world: events. A stage emits them and knows none of their listeners."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

EventName = Literal["started", "progressed", "noticed", "finished", "failed"]


@dataclass(frozen=True)
class Event:
    """One thing that happened in a stage; `counts` are running totals for its source, partition or table."""

    name: EventName
    stage: str
    source: str | None = None
    message: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    partition: str | None = None


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing, for callers that want only the result."""
