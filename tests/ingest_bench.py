"""A project of a few sources, and ingests into its warehouse that are runs of their own."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from foundation.events import Event
from foundation.settings import load_settings
from ingestion.ingest import IngestResult, ingest, plan

START = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A project; every ingest is a run of its own, a day after the one before."""

    def __init__(self, root: Path, config: str | None) -> None:
        """A new project, or without `config` the one that is there."""
        self.root = root
        self.inbox = root / "inbox"
        self.inbox.mkdir(exist_ok=True)
        if config is not None:
            self.configure(config)
        self.events: list[Event] = []
        self.runs = 0

    def configure(self, config: str) -> None:
        """Write penstock.yml anew."""
        (self.root / "penstock.yml").write_text(config)

    def ingest(self, variables: Mapping[str, str] | None = None, only: tuple[str, ...] = ()) -> IngestResult:
        """Read what is new."""
        self.runs += 1
        self.events.clear()
        settings = load_settings(self.root, {})
        started_at = START + timedelta(days=self.runs)
        return ingest(
            self.root,
            settings,
            plan(self.root, settings, started_at=started_at, only=only),
            run_id=f"run-{self.runs}",
            started_at=started_at,
            variables=variables or {},
            emit=self.events.append,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the warehouse."""
        with duckdb.connect(str(self.root / ".penstock" / "warehouse.duckdb")) as connection:
            return connection.execute(statement).fetchall()

    def people(self) -> list[tuple[Any, ...]]:
        """Every row of raw.hr__people: run, location, line, id, name."""
        return self.query(
            "select run_id, _location, _line, id, name from raw.hr__people "
            "inner join (select distinct load_id, run_id from raw.loads) on _load_id = load_id order by all"
        )

    def notices(self) -> list[str]:
        """What was noticed in the last ingest."""
        return [event.message for event in self.events if event.name == "noticed"]
