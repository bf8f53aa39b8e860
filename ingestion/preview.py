"""What an ingest would read, without reading it into raw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import PenstockError
from foundation.settings import Settings
from foundation.sources import ApiSource, Source
from ingestion.readers.framing import KnownPrefix, read_chunks
from ingestion.state import SourceState, read_state
from ingestion.stores import StoredFile, find_files


@dataclass(frozen=True)
class Preview:
    """One file or API: what is there. `error` is set when it cannot be reached."""

    source: str
    location: str
    finding: str
    error: PenstockError | None = None


def preview(root: Path, settings: Settings, variables: Mapping[str, str]) -> Iterator[Preview]:
    """Every file and API of every source, with whether it is new, changed or known."""
    state = read_state(settings.warehouse)
    for name, source in settings.sources.items():
        try:
            if isinstance(source, ApiSource):
                yield Preview(name, source.url, _ask(name, source, settings, variables, state.get(name, SourceState())))
                continue
            for file in find_files(root, source.path, settings.allowed_roots):
                known = state.get(name, SourceState()).prefixes.get(file.location)
                yield Preview(name, file.location, _look(file, known))
        except PenstockError as error:
            yield Preview(name, _place(source), "cannot be read", error)


def _place(source: Source) -> str:
    return source.url if isinstance(source, ApiSource) else source.path


def _look(file: StoredFile, known: KnownPrefix | None) -> str:
    size, first_offset = 0, 0
    with file.open() as stream:
        for number, chunk in enumerate(read_chunks(stream, known)):
            first_offset = chunk.offset if number == 0 else first_offset
            size += len(chunk.data)
    if known is None:
        return f"new, {size:,} bytes"
    if size == 0:
        return "nothing new"
    return f"grown by {size:,} bytes" if first_offset else f"changed, {size:,} bytes"


def _ask(name: str, source: ApiSource, settings: Settings, variables: Mapping[str, str], state: SourceState) -> str:
    from ingestion.readers.http_api import ApiReader
    from ingestion.readers.http_client import ApiClients

    retries, size = settings.max_retries, settings.batch_size
    with ApiClients(variables, concurrency=1, max_retries=retries, batch_size=size) as clients:
        reader = ApiReader(name, source, clients, None, state=state)
        page = reader.first_page()
    known = "known" if reader.is_known(page) else "new"
    return f"answers, {page.count:,} records on the first page, {known}"
