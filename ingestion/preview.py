"""What an ingest would read, without reading it into raw."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from foundation.errors import PenstockError
from foundation.settings import Settings
from foundation.sources import ApiSource, CsvSource, FileSource, JsonSource, ParquetSource, Source
from ingestion.parts import Part, parts_of, with_parents
from ingestion.readers.csv_files.encodings import open_text
from ingestion.readers.csv_files.files import reads_alike
from ingestion.readers.framing import KnownPrefix, read_chunks
from ingestion.state import SourceState, read_state, version_token
from ingestion.stores import StoredFile, find_files

BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Preview:
    """One file or API: what is there. `error` is set when it cannot be reached; `part` is empty where it is all."""

    source: str
    location: str
    finding: str
    error: PenstockError | None = None
    part: str = ""

    def one_line(self) -> str:
        """All of it on one line, every place named once."""
        name = f"{self.source}, {self.part}" if self.part and self.part != self.location else self.source
        if self.error is None:
            return f"{name}: {self.location}: {self.finding}"
        told = self.error.one_line().removeprefix(f"{self.source}: ")
        return f"{name}: {told}" if self.location in told else f"{name}: {self.location}: {told}"


def preview(root: Path, settings: Settings, variables: Mapping[str, str], today: date) -> Iterator[Preview]:
    """Every file and API of every part of every source, with whether it is new, changed or known."""
    state = read_state(settings.warehouse)
    for part in parts_of(root, settings, with_parents(settings, list(settings.sources)), today):
        source = part.settings
        try:
            for found in _previews(root, settings, variables, part, state.of(part.source)):
                yield replace(found, part=part.name)
        except PenstockError as error:
            yield Preview(part.source, _place(source), "cannot be read", error, part.name)


def _previews(
    root: Path, settings: Settings, variables: Mapping[str, str], part: Part, known: SourceState
) -> Iterator[Preview]:
    source = part.settings
    if part.problem is not None:
        raise part.problem
    if part.nothing:
        yield Preview(part.source, _place(source), part.nothing)
    elif isinstance(source, ApiSource):
        yield Preview(part.source, source.url, _ask(part, source, settings, variables, known))
    else:
        for file in part.files or find_files(root, source.path, settings.allowed_roots):
            yield _look(part.source, source, file, known)


def _place(source: Source) -> str:
    return source.url if isinstance(source, ApiSource) else source.path


def _look(name: str, source: CsvSource | JsonSource | ParquetSource, file: StoredFile, state: SourceState) -> Preview:
    known = state.prefixes.get(file.location)
    try:
        token = version_token(file.token, source)
        if known is not None and token is not None and token == state.tokens.get(file.location):
            finding = "nothing new"
        elif isinstance(source, ParquetSource):
            finding = _compare_whole(file, known)
        else:
            finding = _compare_prefix(file, source, known)
    except (OSError, EOFError, PenstockError) as error:
        problem = error if isinstance(error, PenstockError) else file.unreadable(error)
        return Preview(name, file.location, "cannot be read", problem)
    return Preview(name, file.location, finding)


def _compare_prefix(file: StoredFile, source: FileSource, known: KnownPrefix | None) -> str:
    size, first_offset = 0, 0
    with file.open() as stored:
        stream = open_text(stored, source.encoding).stream if isinstance(source, CsvSource) else stored
        for number, chunk in enumerate(read_chunks(stream, known)):
            first_offset = chunk.offset if number == 0 else first_offset
            size += chunk.end - chunk.offset
    if known is None:
        return f"new, {size:,} bytes"
    if (size == 0 or first_offset) and isinstance(source, CsvSource) and not reads_alike(file, source, known):
        return f"read with another dialect, {known.position_bytes + size:,} bytes"
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


def _ask(part: Part, source: ApiSource, settings: Settings, variables: Mapping[str, str], state: SourceState) -> str:
    if source.for_each is not None:
        return f"asked for each {source.for_each.field} that {source.for_each.source} gives"
    from ingestion.readers.apis.client import ApiClients
    from ingestion.readers.apis.reader import ApiReader

    retries, size = settings.max_retries, settings.batch_size
    with ApiClients(variables, concurrency=1, max_retries=retries, batch_size=size) as clients:
        reader = ApiReader(part.source, source, clients, None, part.name, state)
        page = reader.first_page()
    known = "known" if reader.is_known(page) else "new"
    return f"answers, {page.count:,} {'record' if page.count == 1 else 'records'} on the first page, {known}"
