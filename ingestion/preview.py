"""What an ingest would read, without reading it into raw."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import PenstockError
from foundation.settings import Settings
from foundation.sources import ApiSource, FileSource, ParquetSource, Source
from ingestion.readers.framing import KnownPrefix, read_chunks
from ingestion.state import SourceState, read_state
from ingestion.stores import StoredFile, find_files

BLOCK_BYTES = 4 * 1024 * 1024


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
                yield _look(name, source, file, state.get(name, SourceState()))
        except PenstockError as error:
            yield Preview(name, _place(source), "cannot be read", error)


def _place(source: Source) -> str:
    return source.url if isinstance(source, ApiSource) else source.path


def _look(name: str, source: FileSource, file: StoredFile, state: SourceState) -> Preview:
    known = state.prefixes.get(file.location)
    try:
        if known is not None and file.token is not None and file.token == state.tokens.get(file.location):
            finding = "nothing new"
        elif isinstance(source, ParquetSource):
            finding = _compare_whole(file, known)
        else:
            finding = _compare_prefix(file, known)
    except (OSError, EOFError, PenstockError) as error:
        problem = error if isinstance(error, PenstockError) else file.unreadable(error)
        return Preview(name, file.location, "cannot be read", problem)
    return Preview(name, file.location, finding)


def _compare_prefix(file: StoredFile, known: KnownPrefix | None) -> str:
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


def _compare_whole(file: StoredFile, known: KnownPrefix | None) -> str:
    digest, size = hashlib.sha256(), 0
    with file.open() as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    if known is None:
        return f"new, {size:,} bytes"
    if digest.hexdigest() != known.content_hash:
        return f"changed, {size:,} bytes"
    return "nothing new" if known.position_bytes >= size else f"read up to row {known.lines:,}"


def _ask(name: str, source: ApiSource, settings: Settings, variables: Mapping[str, str], state: SourceState) -> str:
    from ingestion.readers.http_api import ApiReader

    reader = ApiReader(
        name,
        source,
        known=variables,
        max_retries=settings.max_retries,
        batch_size=settings.batch_size,
        known_pages={location: known.content_hash for location, known in state.prefixes.items()},
        cursor=state.cursors.get(""),
        batch=None,
    )
    page = reader.first_page()
    known = "known" if reader.is_known(page) else "new"
    return f"answers, {len(page.records):,} records on the first page, {known}"
