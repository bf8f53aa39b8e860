"""Parts: what is read on its own. A source is one part, or as many as its partitions make."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from foundation.checks import MOST_PARTS
from foundation.errors import ConfigError, PenstockError
from foundation.settings import CONFIG_FILE, Settings
from foundation.sources import ApiSource, FileSource, Source
from ingestion.stores import StoredFile, find_files


@dataclass(frozen=True)
class Part:
    """One part of a source, its placeholders filled in. `name` is empty where the source has no partitions.

    `files` are those of a part that is a file; `problem` is why it cannot be read at all, `nothing` why there is
    nothing to read yet. Of a replay `replays` is the file of letters that are read instead, or `ids` are those that
    are asked for alone.
    """

    source: str
    name: str
    settings: Source
    priority: tuple[int, int] = (0, 0)
    files: Sequence[StoredFile] | None = None
    problem: PenstockError | None = None
    nothing: str = ""
    replays: Path | None = None
    ids: Sequence[str] | None = None


def parts_of(root: Path, settings: Settings, names: Sequence[str], today: date) -> list[Part]:
    """The parts of these sources, those that are read first at the front.

    Raises ConfigError where partitions cannot be made as penstock.yml says.
    """
    parts = [part for name in names for part in _parts(root, settings, name, today)]
    return sorted(parts, key=lambda part: part.priority, reverse=True)


def with_parents(settings: Settings, names: Sequence[str]) -> list[str]:
    """`names` and the sources that they take ids from, in the order of penstock.yml."""
    wanted = set(names)
    for name in names:
        parent = parent_of(settings.sources[name])
        while parent is not None and parent not in wanted:
            wanted.add(parent)
            parent = parent_of(settings.sources[parent])
    return [name for name in settings.sources if name in wanted]


def parent_of(source: Source) -> str | None:
    """The source that this one takes its ids from."""
    return source.for_each.source if isinstance(source, ApiSource) and source.for_each else None


def _parts(root: Path, settings: Settings, name: str, today: date) -> Iterator[Part]:
    source = settings.sources[name]
    partitions = source.partitions
    if partitions is None:
        yield Part(name, "", source, (source.priority, 0))
        return
    rank = partitions.priority
    if partitions.by == "files":
        assert isinstance(source, FileSource)
        try:
            files = find_files(root, source.path, settings.allowed_roots)
        except PenstockError as error:
            yield Part(name, "", source, (source.priority, 0), problem=error)
            return
        for file in files:
            yield Part(name, file.location, source, (source.priority, rank.get(file.location, 0)), [file])
        return
    made = list(itertools.islice(partitions.parts(today), MOST_PARTS + 1))
    if len(made) > MOST_PARTS:
        raise ConfigError(
            f"sources.{name}.partitions makes more than {MOST_PARTS:,} parts",
            where=CONFIG_FILE,
            fix="take larger steps",
        )
    if not made:
        nothing = f"there is no part before {partitions.start}, the start of its partitions"
        yield Part(name, "", source, (source.priority, 0), nothing=nothing)
        return
    for part, values in made:
        yield Part(name, part, _fill(source, values), (source.priority, rank.get(part, 0)))


def _fill(source: Source, values: Mapping[str, str]) -> Source:
    def fill(text: str) -> str:
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        return text

    if isinstance(source, ApiSource):
        params = {key: fill(value) for key, value in source.params.items()}
        return source.model_copy(update={"url": fill(source.url), "params": params})
    return source.model_copy(update={"path": fill(source.path)})
