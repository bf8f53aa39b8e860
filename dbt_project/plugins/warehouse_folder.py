"""dbt-duckdb plugin that makes the warehouse's folder, so that `dbt build` works on a fresh clone."""

from pathlib import Path
from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin


class Plugin(BasePlugin):
    """DuckDB makes its file but not the folder, and dbt has no hook that runs before it connects."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:  # noqa: ARG002 - dbt-duckdb passes it
        """Makes the folder that the profile's `path` lies in."""
        if self.creds is not None and "://" not in self.creds.path and not self.creds.path.startswith(":"):
            Path(self.creds.path).parent.mkdir(parents=True, exist_ok=True)
