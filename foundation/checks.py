"""What of the sources does not fit together: what shows only where several keys are looked at."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from foundation.sources import ApiSource, CsvSource, JsonSource, OAuth2Auth, ParquetSource, Partitions

MOST_PARTS = 100_000
MOST_TOLD = 5


@dataclass(frozen=True)
class Misfit:
    """A key with what is wrong and what to do."""

    place: tuple[str, ...]
    what: str
    fix: str


AnyKind = CsvSource | JsonSource | ParquetSource | ApiSource


def misfits(sources: Mapping[str, AnyKind], stop: float, warning: float | None) -> Iterator[Misfit]:
    """Every key that does not fit the others: of a source, and of the thresholds that hold where it has none."""
    yield from _thresholds((), stop, warning)
    for name, source in sources.items():
        place = ("sources", name)
        own = source.failure_threshold_percent
        yield from _thresholds(place, stop if own is None else own, source.failure_warning_percent)
        if isinstance(source, ApiSource):
            yield from _api(place, source)
            yield from _parents(name, source, sources)
        if source.partitions is not None:
            yield from _partitions(place, source, source.partitions)


def _thresholds(place: tuple[str, ...], stop: float, warning: float | None) -> Iterator[Misfit]:
    if warning is not None and warning > stop:
        what = f"is {warning:g}, beyond failure_threshold_percent, which is {stop:g} here"
        yield Misfit((*place, "failure_warning_percent"), what, f"it is at most {stop:g}")


def _api(place: tuple[str, ...], source: ApiSource) -> Iterator[Misfit]:
    addresses = [("url", source.url)]
    if isinstance(source.auth, OAuth2Auth):
        addresses.append(("auth.token_url", source.auth.token_url))
    for key, url in addresses:
        # What begins with ${NAME} is known when it is read.
        if not re.match(r"https?://|\$\{", url, re.IGNORECASE):
            yield Misfit((*place, *key.split(".")), "is no address of the web", "it begins with http:// or https://")
    paging = source.pagination
    if paging.type == "cursor" and paging.next_path is None:
        fix = "name the path to the next cursor in the answer"
        yield Misfit((*place, "pagination"), "of type cursor needs next_path", fix)
    if source.for_each is None and "{id}" in source.url:
        yield Misfit((*place, "url"), "holds {id}, which only for_each fills", "add for_each, or take {id} out")
    if source.for_each is not None and (paging.type != "none" or "{id}" not in source.url):
        fix = "put {id} into the url and leave pagination out"
        yield Misfit((*place, "for_each"), "asks once for each id", fix)
    for one, other in (("cursor_path", "cursor_param"), ("cursor_param", "cursor_path")):
        if getattr(source, one) is not None and getattr(source, other) is None:
            yield Misfit((*place, one), f"does nothing without {other}", f"add {other}, or leave {one} out")
    if source.cursor_lag and source.cursor_path is None and source.cursor_param is None:
        fix = "add both, or leave cursor_lag out"
        yield Misfit((*place, "cursor_lag"), "does nothing without cursor_path and cursor_param", fix)


def _parents(name: str, source: ApiSource, sources: Mapping[str, AnyKind]) -> Iterator[Misfit]:
    """Where the chain of sources that one takes its ids from breaks off, or comes back to it."""
    if source.for_each is None:
        return
    place = ("sources", name, "for_each", "source")
    parent = sources.get(source.for_each.source)
    if not isinstance(parent, ApiSource):
        yield Misfit(place, f"is {source.for_each.source!r}, which is no API source", "name a source of type api")
    seen: set[str] = set()
    while isinstance(parent, ApiSource) and parent.for_each and parent.for_each.source not in seen:
        seen.add(parent.for_each.source)
        parent = sources.get(parent.for_each.source)
    if name in seen or source.for_each.source == name:
        yield Misfit(place, f"is {source.for_each.source!r}, which waits for {name} itself", "break the circle")


def _partitions(place: tuple[str, ...], source: AnyKind, partitions: Partitions) -> Iterator[Misfit]:
    place = (*place, "partitions")
    if partitions.by == "files":
        if isinstance(source, ApiSource):
            yield Misfit((*place, "by"), "is 'files', but an API has no files", "use another kind")
            return
        for file in partitions.priority:
            pattern = source.path.removeprefix("./").replace("**/", "*")
            if _is_plain(source.path) and file != source.path and not fnmatchcase(file, pattern):
                what = f"names {file!r}, which path does not"
                yield Misfit((*place, "priority", file), what, f"name files as in {source.path}")
        return
    texts = [source.url, *source.params.values()] if isinstance(source, ApiSource) else [source.path]
    marks = [f"{{{key}}}" for key in partitions.marks]
    if not any(mark in text for mark in marks for text in texts):
        where = "url or params" if isinstance(source, ApiSource) else "path"
        yield Misfit(place, "has nothing that tells its parts apart", f"put {' or '.join(marks)} into {where}")
    start, stop = partitions.start, partitions.stop
    if start is not None and stop is not None and start >= stop:  # type: ignore[operator]
        what = f"makes no part: start {start} is not before stop {stop}"
        yield Misfit(place, what, "stop is the first that is not read")
    elif partitions.priority:
        made = [part for part, _ in itertools.islice(partitions.parts(datetime.now(UTC).date()), MOST_PARTS)]
        known = set(made)
        for part in partitions.priority:
            if part not in known:
                told = ", ".join(made[:MOST_TOLD]) + ("..." if len(made) > MOST_TOLD else "")
                yield Misfit((*place, "priority", part), f"names {part!r}, which is no part of it", f"parts are {told}")


def _is_plain(path: str) -> bool:
    """Whether files are named in raw as `path` has them."""
    return "://" not in path and not path.startswith(("/", "~")) and ".." not in path and "//" not in path
