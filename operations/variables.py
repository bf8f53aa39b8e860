"""What the ${NAME}s of API sources stand for in a run."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from foundation.settings import Settings
from foundation.sources import ApiSource

BASE_URL = "API_BASE_URL"


@contextmanager
def source_variables(root: Path, settings: Settings) -> Iterator[Mapping[str, str]]:
    """What ${NAME} in a source may stand for. Without API_BASE_URL the bundled sample API answers for it."""
    known = dict(os.environ)
    if settings.api_key is not None:
        known["API_KEY"] = settings.api_key.get_secret_value()
    if settings.api_base_url:
        known[BASE_URL] = settings.api_base_url.rstrip("/")
    needs_api = any(
        isinstance(source, ApiSource) and f"${{{BASE_URL}}}" in source.url for source in settings.sources.values()
    )
    if BASE_URL in known or not needs_api:
        yield known
        return
    from sample_data.api_server import serve

    # A domain that was taken out took its samples with it.
    files = (root / "sample_data" / "employees" / "talent.json", root / "sample_data" / "catalogue" / "datasets.ndjson")
    data, catalogue = (file if file.exists() else None for file in files)
    with serve(data, catalogue=catalogue) as url:
        yield known | {BASE_URL: url}
