"""13. The suite itself: without any one of its guards the product must fail a round, or the suite sees nothing."""

import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from foundation.errors import LockedError
from tests.chaos import oracle
from tests.chaos.context import Context
from tests.chaos.engine import Kind, Round, State, World
from tests.chaos.guards import removed_here
from tests.chaos.kinds import http, postgres, races, state_lost
from tests.fault_server import LAST_PAGE, LASTING

TITLE = "each guard is missed when it is gone"


def rounds(context: Context) -> Iterator[Round]:
    """Each guard out, one at a time, and the round that needs it: it must go wrong."""
    cases = context.chosen(list(CASES.items()), "guards", short=2)
    for name, scenario in cases:
        with _without(context, name):
            problems = scenario(context)
        told = [] if problems else [f"nobody misses it: the suite does not see that the guard '{name}' is gone"]
        yield Round(f"without the guard '{name}'" + (f" ({problems[0][:120]})" if problems else ""), told)


@contextmanager
def _without(context: Context, name: str) -> Iterator[None]:
    context.engine.base("duckdb", "incremental")  # made with all guards
    context.engine.without = name
    try:
        yield
    finally:
        context.engine.without = None


@contextmanager
def _world(context: Context, kind: Kind, state: State) -> Iterator[World]:
    world = context.engine.base(kind, state).clone()
    try:
        yield world
    finally:
        world.remove()


def _model_edited(model: str, old: str, new: str, then: Callable[[World], list[str]]) -> Callable[[Context], list[str]]:
    """A guard that is SQL."""

    def scenario(context: Context) -> list[str]:
        with _world(context, "duckdb", "incremental") as world:
            file = world.root / "dbt_project" / model
            text = file.read_text()
            assert old in text, f"{model} does not say {old}"
            file.write_text(text.replace(old, new))
            return then(world)

    return scenario


def _loaded_twice(world: World) -> list[str]:
    """Once for each of the jobs, which come in no order: those of a table of records are what is meant."""
    found: list[str] = []
    for number in range(1, 5):
        with _again(world) as other:
            other.run("run", PENSTOCK_FAILPOINT=f"dlt.job_duckdb_after:{number}")
            found += oracle.rerun_and_check(other)
        if found:
            break
    return found


@contextmanager
def _again(world: World) -> Iterator[World]:
    other = world.clone()
    try:
        yield other
    finally:
        other.remove()


def _race(context: Context, number: int) -> list[str]:
    found: list[str] = []
    rivals = context.engine.second_warm()
    for attempt in range(3):
        kind, way = races.WAYS[number]
        chance = context.engine.chance("guard race", number, attempt)
        found += races._round(context, "race", kind, way, chance, rivals).problems
        if found:
            break
    return found


def _nothing_new(context: Context) -> list[str]:
    with _world(context, "duckdb", "incremental") as world:
        return oracle.rerun_and_check(world) + oracle.nothing_new(world)


def _state(name: str) -> Callable[[Context], list[str]]:
    def scenario(context: Context) -> list[str]:
        with _world(context, "duckdb", "incremental") as world:
            return state_lost.CASES[name](world)

    return scenario


def _killed(point: str) -> Callable[[Context], list[str]]:
    def scenario(context: Context) -> list[str]:
        with _world(context, "duckdb", "incremental") as world:
            before = oracle.published(world)
            done = world.run("run", PENSTOCK_FAILPOINT=point)
            assert done.code == -signal.SIGKILL, done.told
            return oracle.is_whole(world, [before, oracle.expected(world)]) + oracle.rerun_and_check(world)

    return scenario


def _short_success(context: Context) -> list[str]:
    fault = LASTING["an empty page"]
    return http._round(context, "an empty page", fault, LAST_PAGE, 1_000_000).problems


def _lost_reply(context: Context) -> list[str]:
    with _place(context) as place, removed_here(context.engine.without or ""):
        return postgres._round(place, "reply lost", context.engine.chance("guard"))


def _two_publishers(context: Context) -> list[str]:
    """Both at once, over and over: without the lock they see the same release and number theirs alike."""
    with _place(context) as place, removed_here("publisher lock"):

        def attempt(version: int) -> str | None:
            try:
                with suppress(LockedError):
                    postgres.go(postgres.warehouse_of(place.folder, version, rows=2000), place.dsn)
            except Exception as error:  # noqa: BLE001 - what the lock would have kept from happening
                return f"{type(error).__name__}: {error}"
            return None

        found: list[str] = []
        with ThreadPoolExecutor(2) as pool:
            for number in range(2, 12, 2):
                found += [told for told in pool.map(attempt, (number, number + 1)) if told]
                if len(place.shown()) != 1:
                    found.append(f"readers see {place.shown()}")
                if found:
                    break
        return found


@contextmanager
def _place(context: Context) -> Iterator[postgres._Place]:
    from publishing import embedded

    with tempfile.TemporaryDirectory(prefix="pk", dir=context.engine.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        place = postgres._Place(folder)
        try:
            yield place
        finally:
            embedded.stop(place.server_dir)


def _rows_gone(context: Context) -> list[str]:
    return state_lost.loud(context, "duckdb").problems


def _uncounted(context: Context) -> list[str]:
    return state_lost.uncounted(context).problems


CASES: dict[str, Callable[[Context], list[str]]] = {
    "run lock": lambda context: _race(context, 0),
    "warehouse lock": lambda context: _race(context, 2),
    "file ledger": _nothing_new,
    "load time": _state("the clock is an hour back"),
    "change time": _state("the same time with new content"),
    "total": _short_success,
    "end of file": _state("a packed file that is cut"),
    "sweep": _killed("dlt.extracted_before"),
    "books": _uncounted,
    "gate": _rows_gone,
    "one transaction": _killed("publish.table_changed"),
    "atomic rename": _killed("guard.half_written:2"),
    "commit outcome": _lost_reply,
    "release row": _lost_reply,
    "publisher lock": _two_publishers,
    "dedupe": _model_edited(
        "macros/raw_records.sql", "where numbered_records._repeat_number = 1", "where true", _loaded_twice
    ),
    "version of a file": _model_edited(
        "models/staging/ingestion/stg_ingestion__loads.sql",
        "coalesce(source.loaded_at >= version_starts.loaded_at, true)",
        "true",
        oracle.rerun_and_check,
    ),
}
