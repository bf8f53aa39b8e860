"""Domains: which of them a source and a mart belong to, and what each came to in a run.

A domain is the folder of that name in every layer of dbt_project/models.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foundation.events import Event

COUNTS = ("read", "loaded", "dead_lettered", "skipped", "duplicates", "rejected", "published")


def read_domains(root: Path) -> dict[str, str]:
    """By source and by mart: its domain. A source is that of the staging model with its name."""
    models = root / "dbt_project" / "models"
    marts = {file.stem: file.parent.name for file in models.glob("marts/*/*.sql")}
    sources = {file.stem.removeprefix("stg_"): file.parent.name for file in models.glob("staging/*/stg_*.sql")}
    # Staging has a folder of the loads too, which is no domain.
    return marts | {source: domain for source, domain in sources.items() if domain in marts.values()}


class Stopwatch:
    """A listener: how long was worked on each source, suite and mart, in seconds. What runs side by side adds up."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._begun: dict[tuple[str, str, str | None], float] = {}

    def __call__(self, event: Event) -> None:
        if event.source is None:
            return
        place = (event.stage, event.source, event.partition)
        if event.name == "started":
            self._begun[place] = time.monotonic()
        elif event.name in ("finished", "failed") and place in self._begun:
            self.seconds[event.source] += time.monotonic() - self._begun.pop(place)


def sum_up(
    domains: Mapping[str, str],
    sources: Iterable[Mapping[str, Any]],
    seconds: Mapping[str, float],
    build_seconds: Mapping[str, float],
) -> list[dict[str, Any]]:
    """What each domain came to, from the summary's sources; the seconds of its tables, and of its models and tests."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for source in sources:
        if source["source"] in domains:
            found[domains[source["source"]]].append(source)
    for domain in build_seconds.keys() & set(domains.values()):
        found.setdefault(domain, [])
    return [
        {
            "domain": domain,
            "sources": len(held),
            **{name: _sum(source[name] for source in held) for name in COUNTS},
            "is_balanced": _all(source["is_balanced"] for source in held),
            "seconds": round(sum(each for table, each in seconds.items() if domains.get(table) == domain), 3),
            "build_seconds": round(build_seconds.get(domain, 0.0), 3),
        }
        for domain, held in sorted(found.items())
    ]


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where nobody has counted."""
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def _all(states: Iterable[bool | None]) -> bool | None:
    known = list(states)
    return None if None in known or not known else all(known)
