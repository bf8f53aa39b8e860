"""Parts: what is read on its own. A source is one part, or as many as its partitions make."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from foundation.errors import ConfigError, PenstockError
from foundation.settings import Settings
from foundation.sources import ApiSource, FileSource, Partitions, Source
from ingestion.stores import StoredFile, find_files

MOST_PARTS = 100_000


@dataclass(frozen=True)
class Part:
    """One part of a source, its placeholders filled in. `name` is empty where the source has no partitions.

    `files` are those of a part that is a file; `problem` is why it cannot be read at all, `nothing` why there is
    nothing to read yet.
    """

    source: str
    name: str
    settings: Source
    priority: tuple[int, int] = (0, 0)
    files: Sequence[StoredFile] | None = None
    problem: PenstockError | None = None
    nothing: str = ""


def parts_of(root: Path, settings: Settings, names: Sequence[str], today: date) -> list[Part]:
    """The parts of these sources, those that are read first at the front.

    Raises ConfigError where partitions cannot be made as penstock.yml says.
    """
    parts = [part for name in names for part in _parts(root, settings, name, today)]
    return sorted(parts, key=lambda part: part.priority, reverse=True)


def with_parents(settings: Settings, names: Sequence[str]) -> list[str]:
    """`names` and the sources that they take ids from, in the order of penstock.yml.

    Raises ConfigError where such a source is not there, is no API, or waits for itself.
    """
    wanted = set(names)
    for name in names:
        chain = [name]
        while (parent := parent_of(settings.sources[chain[-1]])) is not None:
            where = f"sources.{chain[-1]}.for_each.source"
            if not isinstance(settings.sources.get(parent), ApiSource):
                raise ConfigError(f"{where} is {parent!r}, which is no API source", fix="name a source of type api")
            if parent in chain:
                raise ConfigError(f"{where} is {parent!r}, which waits for {name} itself", fix="break the circle")
            chain.append(parent)
        wanted |= set(chain)
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
        if not isinstance(source, FileSource):
            raise ConfigError(f"sources.{name}.partitions.by is 'files', but it has no files", fix="use another kind")
        try:
            files = find_files(root, source.path, settings.allowed_roots)
        except PenstockError as error:
            yield Part(name, "", source, (source.priority, 0), problem=error)
            return
        for file in files:
            yield Part(name, file.location, source, (source.priority, rank.get(file.location, 0)), [file])
        return
    start, stop = partitions.start, partitions.stop
    if partitions.by in ("range", "dates") and stop is not None and start >= stop:  # type: ignore[operator]
        raise ConfigError(
            f"sources.{name}.partitions makes no part: start {start} is not before stop {stop}",
            where="penstock.yml",
            fix="stop is the first that is not read",
        )
    made = list(itertools.islice(_values(partitions, today), MOST_PARTS + 1))
    if len(made) > MOST_PARTS:
        raise ConfigError(f"sources.{name}.partitions makes more than {MOST_PARTS:,} parts", fix="take larger steps")
    if not made:
        nothing = f"there is no part before {start}, the start of its partitions"
        yield Part(name, "", source, (source.priority, 0), nothing=nothing)
        return
    unknown = [part for part in rank if part not in {part for part, _ in made}]
    if unknown:
        raise ConfigError(
            f"sources.{name}.partitions.priority names {unknown[0]!r}, which is no part of it",
            fix=f"its parts are {', '.join(part for part, _ in made[:5])}...",
        )
    for part, values in made:
        filled = _fill(source, values)
        if filled == source:
            raise ConfigError(
                f"sources.{name}.partitions: nothing tells its parts apart",
                fix=f"put {' or '.join(f'{{{key}}}' for key in values)} into its path, url or params",
            )
        yield Part(name, part, filled, (source.priority, rank.get(part, 0)))


def _values(partitions: Partitions, today: date) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and placeholder values of every part."""
    if partitions.by == "values":
        for value in dict.fromkeys(partitions.values):
            yield value, {"value": value}
    elif partitions.by == "hash":
        for bucket in range(partitions.buckets or 0):
            yield f"{bucket} of {partitions.buckets}", {"bucket": str(bucket), "buckets": str(partitions.buckets)}
    elif partitions.by == "range":
        first, stop, step = int(partitions.start or 0), int(partitions.stop or 0), partitions.step or 1  # type: ignore[arg-type]
        for start in range(first, stop, step):
            end = min(start + step, stop)
            yield f"{start} to {end - 1}", {"start": str(start), "stop": str(end)}
    else:
        day, step = partitions.start, partitions.step or 1
        stop_day = partitions.stop or today + timedelta(days=1)
        assert isinstance(day, date)
        assert isinstance(stop_day, date)
        while day < stop_day:
            following = min(day + timedelta(days=step), stop_day)
            last = following - timedelta(days=1)
            yield (f"{day}" if last == day else f"{day} to {last}"), {"start": f"{day}", "stop": f"{following}"}
            day = following


def _fill(source: Source, values: Mapping[str, str]) -> Source:
    def fill(text: str) -> str:
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        return text

    if isinstance(source, ApiSource):
        params = {key: fill(value) for key, value in source.params.items()}
        return source.model_copy(update={"url": fill(source.url), "params": params})
    return source.model_copy(update={"path": fill(source.path)})
