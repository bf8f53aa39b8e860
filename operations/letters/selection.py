"""Which letters a command is about: filters, and the ids that somebody typed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import duckdb

from foundation.errors import ConfigError
from operations.letters.ledger import OPEN, STAGES, STATES

SHORTEST_ID = 6


@dataclass(frozen=True)
class Selection:
    """Filters that all hold; of several values under one of them any. Times are those when a letter was last seen.

    `runs` are those that found a letter first or last, or replayed it.
    """

    sources: Sequence[str] = ()
    reasons: Sequence[str] = ()
    stages: Sequence[str] = ()
    states: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    ids: Sequence[str] = ()
    runs: Sequence[str] = ()

    def __post_init__(self) -> None:
        for option, values, allowed in (("--stage", self.stages, STAGES), ("--state", self.states, STATES)):
            for value in values:
                if value not in allowed:
                    raise ConfigError(f"there is no {value}", where=option, fix=f"there are {', '.join(allowed)}")

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it."""
        return self == Selection(states=self.states)

    def or_open(self) -> "Selection":
        """The same, of letters that are open where no state is asked for and no letter is named."""
        if self.states or self.ids:
            return self
        return replace(self, states=(OPEN,))

    def condition(self, connection: duckdb.DuckDBPyConnection) -> tuple[str, dict[str, Any]]:
        """SQL over `ops.dead_letters`, and its parameters. Raises ConfigError for an id that names not just one."""
        parts = ["true"]
        values: dict[str, Any] = {}
        whole = replace(self, ids=full_ids(connection, self.ids))
        for name, column in (("sources", "source"), ("stages", "stage"), ("states", "state"), ("ids", "letter_id")):
            if chosen := list(getattr(whole, name)):
                parts.append(f"{column} in (select unnest(${name}::varchar[]))")
                values[name] = chosen
        if self.runs:
            parts.append(
                "(list_contains($runs::varchar[], run_id) or list_contains($runs::varchar[], last_run_id) or letter_id "
                "in (select letter_id from ops.letter_tries where list_contains($runs::varchar[], run_id)))"
            )
            values["runs"] = list(self.runs)
        if self.reasons:
            parts.append("list_has_any(string_split(reasons, ','), $reasons::varchar[])")
            values["reasons"] = list(self.reasons)
        if self.since is not None:
            parts.append("last_seen >= $since::timestamptz")
            values["since"] = f"{self.since.isoformat()}+00"
        if self.until is not None:
            parts.append("last_seen < $until::timestamptz")
            values["until"] = f"{self.until.isoformat()}+00"
        return " and ".join(parts), values


def full_ids(connection: duckdb.DuckDBPyConnection, typed: Sequence[str]) -> list[str]:
    """The ids that these, whole or their beginnings, stand for. Raises ConfigError for one that names not just one."""
    found = []
    for text in typed:
        rows = connection.execute(
            "select letter_id from ops.dead_letters where starts_with(letter_id, ?) limit 2", [text]
        ).fetchall()
        if len(text) < SHORTEST_ID or not rows:
            raise ConfigError(f"no dead letter has the id {text}", fix="penstock deadletters list --ids shows them")
        if len(rows) > 1:
            raise ConfigError(f"several dead letters have an id that begins with {text}", fix="give more of it")
        found.append(str(rows[0][0]))
    return found
