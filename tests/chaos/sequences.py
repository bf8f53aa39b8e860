"""Sequences of operations on one world, each with its effect on the model: what kind 11 is made of.

Ingests and publishes run in this process and the models as dbt compiled them, so that a thousand sequences take an
hour; a crash is a process of its own that is killed.
"""

import random
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psycopg
from psycopg import sql

from foundation.events import ignore
from foundation.settings import load_settings
from ingestion.ingest import ingest, plan
from publishing.publish import publish
from publishing.releases import Origin
from publishing.rollback import rollback
from publishing.target import Destination
from tests.chaos import oracle, people
from tests.chaos.engine import Engine, World
from tests.chaos.oracle import Marts
from tests.chaos.people import Files

MODELS = (
    "staging/ingestion/stg_ingestion__loads",
    "staging/people/stg_hr__people",
    "staging/people/stg_lab__people",
    "staging/people/stg_web__people",
    "intermediate/people/int_people__judged",
    "marts/people/people",
    "marts/people/teams",
)
PATHS = {".csv": "inbox/hr_*.csv", ".ndjson": "inbox/lab_*.ndjson"}
PARTIAL = 4  # a source without a file
LENGTH = 30
SIZE = 6  # lines of a file
SHRINK_SECONDS = 60.0
CRASHES = (
    "ingest.folder_made",
    "ingest.state_read",
    "ingest.parcel_written",
    "ingest.package_full",
    "package.closed",
    "package.loaded",
    "package.removed",
    "dlt.extracted_before",
    "dlt.normalized_after",
    "dlt.job_duckdb_before",
    "dlt.job_duckdb_after",
    "dlt.job_marked_before",
    "dlt.load_noted_after",
    "dlt.package_complete_after",
    "dlt.state_saved_before",
    "ingest.entered",
)
Act = Callable[["Sequence", random.Random], None]


@dataclass
class Sequence:
    """A world in the midst of a sequence: what is in the inbox, what the last ingest saw, what each release showed."""

    world: World
    schema: str
    models: list[tuple[str, str]]
    day: int = 1
    read: Files = field(default_factory=Files)
    released: list[tuple[int, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def files(self) -> Files:
        """What is in the inbox."""
        return self.world.files

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.world.work_dir / "warehouse.duckdb"

    @property
    def destination(self) -> Destination:
        """A schema of its own."""
        return Destination(self.world.dsn, self.schema)

    def any_file(self, chance: random.Random) -> str:
        """One that is still there."""
        return chance.choice(sorted(self.files.lines.keys() - self.files.removed))

    def write(self, name: str) -> None:
        """Write a file as it is now."""
        self.files.write(self.world.inbox, name)

    def shown(self) -> Marts | None:
        """What readers see."""
        return oracle.published(self.world, self.schema)

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Note where it is otherwise."""
        if found != wanted:
            self.problems.append(f"{what}: {str(found)[:200]} in place of {str(wanted)[:200]}")


def _add_file(one: Sequence, chance: random.Random) -> None:
    suffix = chance.choice((".csv", ".ndjson"))
    name = f"{'hr' if suffix == '.csv' else 'lab'}_{len(one.files.lines) + 10}{suffix}"
    one.files.lines[name] = people.make_lines(chance, SIZE, 3 * SIZE, chance.randrange(20), suffix)
    one.write(name)


def _append(one: Sequence, chance: random.Random) -> None:
    name = one.any_file(chance)
    one.files.lines[name] += people.make_lines(chance, 2, 3 * SIZE, chance.randrange(20), Path(name).suffix)
    one.write(name)


def _late(one: Sequence, chance: random.Random) -> None:
    """A row that is older than all that is known."""
    name = one.any_file(chance)
    one.files.lines[name] += people.make_lines(chance, 1, 3 * SIZE, 0, Path(name).suffix)
    one.write(name)


def _change(one: Sequence, chance: random.Random) -> None:
    name = one.any_file(chance)
    lines = list(one.files.lines[name])
    place = chance.randrange(len(lines))
    lines[place] = people.make_lines(chance, 1, 3 * SIZE, chance.randrange(20), Path(name).suffix)[0]
    one.files.lines[name] = lines
    one.write(name)


def _delete(one: Sequence, chance: random.Random) -> None:
    name = one.any_file(chance)
    lines = list(one.files.lines[name])
    if len(lines) > 1:
        del lines[chance.randrange(len(lines))]
        one.files.lines[name] = lines
        one.write(name)


def _back(one: Sequence, chance: random.Random) -> None:
    """A file is again what it was at the last ingest."""
    name = chance.choice(sorted((one.read.lines.keys() & one.files.lines.keys()) - one.files.removed))
    one.files.lines[name] = list(one.read.lines[name])
    one.write(name)


def _remove(one: Sequence, chance: random.Random) -> None:
    """A file that was read goes: its rows stay."""
    known = [name for name in one.files.lines if one.read.lines.get(name) == one.files.lines[name]]
    there = sorted(set(known) - one.files.removed)
    if len(there) > 2:
        name = chance.choice(there)
        one.files.removed.add(name)
        (one.world.inbox / name).unlink()


def _widen(one: Sequence, chance: random.Random) -> None:
    """A CSV file has one more column, or its columns in another order."""
    names = sorted(name for name in one.files.lines.keys() - one.files.removed if name.endswith(".csv"))
    if names:
        name = chance.choice(names)
        columns = [*people.COLUMNS, *(["note"] if chance.random() < 0.5 else [])]
        chance.shuffle(columns)
        one.files.columns[name] = tuple(columns)
        one.write(name)


def _crash(one: Sequence, chance: random.Random) -> None:
    point = chance.choice(CRASHES)
    done = one.world.run("ingest", PENSTOCK_FAILPOINT=point)
    if done.code not in (0, PARTIAL, -signal.SIGKILL):
        one.problems.append(f"a crash at {point} ended otherwise: {done.told}")


def _ingest(one: Sequence, _: random.Random) -> None:
    world = one.world
    settings = load_settings(world.root, {})
    one.day += 1
    started_at = datetime.now(UTC)
    result = ingest(
        world.root,
        settings,
        plan(world.root, settings, started_at=started_at),
        run_id=f"run-{one.day}-{uuid.uuid4().hex[:6]}",
        started_at=started_at,
        variables=world.environment({}),
        emit=ignore,
    )
    # A source whose last file is gone is told; what was read of it stays.
    there = {Path(name).suffix for name in one.files.lines.keys() - one.files.removed}
    wanted = [f"no file is there ({path})" for suffix, path in PATHS.items() if suffix not in there]
    one.expect("the errors of an ingest", [error.partition(": put")[0] for error in result.errors], wanted)
    one.read = Files(
        {name: list(lines) for name, lines in one.files.lines.items()}, set(one.files.removed), dict(one.files.columns)
    )
    _build(one)


def _build(one: Sequence) -> None:
    """Candidates must be what the model makes of what was read."""
    with duckdb.connect(str(one.warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name, statement in one.models:
            kind = "view" if name.startswith("staging.") else "table"
            connection.execute(f"create or replace {kind} {name} as {statement}")
        for mart, rows in _wanted(one).items():
            found = connection.execute(f"select {oracle.MARTS[mart]} from marts.{mart}").fetchall()
            one.expect(f"the candidate {mart}", sorted(found, key=repr), sorted(rows, key=repr))
        placed = connection.execute(
            "select source, location, line, id from intermediate.int_people__judged"
            " where is_current and source <> 'web__people' order by all"
        ).fetchall()
        one.expect("records", placed, people.records(one.read))


def _wanted(one: Sequence) -> Marts:
    persons = people.people(one.read)
    return {"people": list(persons), "teams": list(people.teams(persons))}


def _publish(one: Sequence, _: random.Random) -> None:
    settings = load_settings(one.world.root, {})
    release = publish(one.warehouse, settings.outputs, one.destination, Origin(f"run-{one.day}"), ignore)
    one.expect("readers", oracle.hashed(one.shown()), oracle.hashed(_wanted(one)))
    if not one.released or one.released[-1][0] != release.release_id:
        one.released.append((release.release_id, oracle.hashed(_wanted(one))))


def _rerun(one: Sequence, chance: random.Random) -> None:
    _ingest(one, chance)
    _publish(one, chance)
    held = len(one.released)
    _publish(one, chance)
    one.expect("releases of a rerun", len(one.released), held)


def _rollback(one: Sequence, chance: random.Random) -> None:
    if len(one.released) > 1:
        release_id, shown = chance.choice(one.released[-5:])
        release = rollback(one.destination, release_id, Origin("rollback"), ignore)
        one.expect(f"readers after a rollback to {release_id}", oracle.hashed(one.shown()), shown)
        if release.is_new:
            one.released.append((release.release_id, shown))


OPERATIONS: dict[str, tuple[int, Act]] = {
    "add file": (4, _add_file),
    "append": (4, _append),
    "late row": (2, _late),
    "change row": (4, _change),
    "delete row": (2, _delete),
    "as it was": (1, _back),
    "remove file": (1, _remove),
    "schema change": (1, _widen),
    "crash": (3, _crash),
    "ingest": (4, _ingest),
    "publish": (3, _publish),
    "rerun": (1, _rerun),
    "rollback": (1, _rollback),
}


def operations(chance: random.Random) -> list[tuple[str, int]]:
    """The names of a sequence, each with a seed of its own; the last makes all good."""
    names, weights = list(OPERATIONS), [weight for weight, _ in OPERATIONS.values()]
    chosen = chance.choices(names, weights, k=LENGTH - 1)
    return [(name, chance.randrange(2**31)) for name in [*chosen, "rerun"]]


def compiled(world: World) -> list[tuple[str, str]]:
    """Relation and SQL of each model, as the last dbt build of a world compiled it."""
    folder = world.root / "target" / "compiled" / "penstock" / "dbt_project" / "models"
    found = []
    for model in MODELS:
        layer, _, name = model.split("/")
        found.append((f"{layer}.{name}", (folder / f"{model}.sql").read_text()))
    return found


@contextmanager
def started(engine: Engine, base: World, models: list[tuple[str, str]]) -> Iterator[Sequence]:
    """A sequence on a copy of a small world that ran once."""
    root = engine.folder / uuid.uuid4().hex[:12]
    shutil.copytree(base.root, root)
    schema = f"s{uuid.uuid4().hex[:10]}"
    files = Files({name: list(lines) for name, lines in base.files.lines.items()})
    world = World(engine, root, base.dsn, None, files)
    read = Files({name: list(lines) for name, lines in base.files.lines.items()})
    try:
        yield Sequence(world, schema, models, read=read)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        with psycopg.connect(base.dsn, autocommit=True) as connection:
            for name in (schema, f"{schema}_history"):
                connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))


def play(engine: Engine, base: World, models: list[tuple[str, str]], steps: list[tuple[str, int]]) -> list[str]:
    """What goes wrong in a sequence, up to its first problem."""
    with started(engine, base, models) as one:
        for place, (name, seed) in enumerate(steps):
            try:
                OPERATIONS[name][1](one, random.Random(seed))
            except Exception as error:  # noqa: BLE001 - told as what the sequence came to
                one.problems.append(f"{type(error).__name__}: {error}")
            if one.problems:
                return [f"at {place} {name}: {problem}" for problem in one.problems]
    return []


def shrunk(
    engine: Engine, base: World, models: list[tuple[str, str]], steps: list[tuple[str, int]]
) -> list[tuple[str, int]]:
    """The steps of a sequence that are needed for it to go wrong: one after the other left out, for a while."""
    place, ends = 0, time.monotonic() + SHRINK_SECONDS
    while place < len(steps) and time.monotonic() < ends:
        fewer = steps[:place] + steps[place + 1 :]
        if play(engine, base, models, fewer):
            steps = fewer
        else:
            place += 1
    return steps
