"""What must be true after every round, whatever had happened: asked of the data, not of the program."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]
import psycopg

from foundation.warehouse import open_warehouse, warehouse_at
from tests.chaos import people
from tests.chaos.engine import World

MARTS = {
    "people": "person, name, team, changed_at, amount",
    "teams": "team, count_people, amount_total",
}
# By byte order: the model sorts as Python does.
_PUBLISHED = 'select {columns} from {mart} order by {key} collate "C"'
Marts = dict[str, list[tuple[Any, ...]]]
LEFT_SECONDS = 15.0  # how long a process that lost its parent may need to end


def expected(world: World) -> Marts:
    """The marts of an undisturbed run, by the model."""
    persons = people.people(world.files)
    return {"people": list(persons), "teams": list(people.teams(persons))}


def published(world: World, schema: str = "public") -> Marts | None:
    """What readers see; None where nothing was published yet."""
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        connection.execute("begin isolation level repeatable read")
        try:
            return {
                mart: connection.execute(
                    _PUBLISHED.format(columns=columns, mart=f"{schema}.{mart}", key=columns.split(",")[0]).encode()
                ).fetchall()
                for mart, columns in MARTS.items()
            }
        except psycopg.errors.UndefinedTable:
            return None


def hashed(marts: Marts | None) -> str:
    """One hash over all marts, to compare and to print."""
    return "nothing" if marts is None else hashlib.sha256(repr(sorted(marts.items())).encode()).hexdigest()[:16]


def is_whole(world: World, allowed: Iterable[Marts | None]) -> list[str]:
    """What is wrong with what readers see right after a fault: it must be one of these releases, all of it."""
    found = published(world)
    if hashed(found) not in {hashed(one) for one in allowed}:
        return [f"readers see {hashed(found)}, which is no whole release"]
    with suppress(FileNotFoundError):
        try:
            json.loads((world.root / "exports" / "people.json").read_text())
        except ValueError:
            return ["an export is half of one"]
    return []


def rerun_and_check(world: World, **environment: str) -> list[str]:
    """One plain rerun, then everything; what is wrong."""
    done = world.run("run", **environment)
    if done.code:
        return [f"the rerun failed: {done.told}"]
    return check(world)


def nothing_new(world: World) -> list[str]:
    """What is wrong with a run that finds nothing new: it must load nothing and release nothing."""
    released = world.query("select max(release_id) from penstock.releases")
    done = world.run("run")
    if done.code:
        return [f"a run that finds nothing new failed: {done.told}"]
    summary = json.loads((world.work_dir / "last_run.json").read_text())
    problems = [f"{summary['totals']['loaded']} records are loaded again"] if summary["totals"]["loaded"] else []
    if world.query("select max(release_id) from penstock.releases") != released:
        problems.append("a run that finds nothing new makes a release")
    return problems


def check(world: World) -> list[str]:
    """Everything, after a run that went well; what is wrong."""
    problems = []
    wanted, found = expected(world), published(world)
    if found != wanted:
        problems.append(f"readers see {hashed(found)} in place of {hashed(wanted)}: {_difference(found, wanted)}")
    problems += _warehouse(world, wanted)
    problems += _exports(world, wanted)
    problems += _orphans(world)
    summary = json.loads((world.work_dir / "last_run.json").read_text())
    if not summary["is_balanced"] or summary["status"] != "succeeded":
        problems.append(f"the last run is {summary['status']}, balanced: {summary['is_balanced']}")
    return problems


def _warehouse(world: World, wanted: Marts) -> list[str]:
    problems = []
    with open_warehouse(warehouse_at(world.warehouse_url or str(world.work_dir / "warehouse.duckdb"))) as connection:
        candidates: Marts = {
            mart: sorted(connection.execute(f"select {columns} from marts.{mart}").fetchall(), key=repr)
            for mart, columns in MARTS.items()
        }
        if candidates != {mart: sorted(rows, key=repr) for mart, rows in wanted.items()}:
            problems.append(f"the candidates are {hashed(candidates)}")
        records = connection.execute(
            "select source, location, line, id from intermediate.int_people__judged"
            " where is_current and source <> 'web__people'"
        ).fetchall()
        problems += _exactly_once("records", records, people.records(world.files))
        letters = connection.execute(
            "select distinct source, location, line, record from raw.dead_letters as letters"
            " where source <> 'web__people' and exists (select 1 from raw.loads as loads inner join raw._dlt_loads as"
            " done on done.load_id = loads._dlt_load_id and done.status = 0 where loads.load_id = letters.load_id)"
        ).fetchall()
        problems += _exactly_once("dead letters", letters, people.letters(world.files), may_be_more=True)
        if running := connection.execute("select run_id from ops.runs where status = 'running'").fetchall():
            problems.append(f"runs that never end in the ledger: {running}")
        judged = connection.execute(
            "select count(*) filter (where not is_balanced) from ops.books"
            " where run_id = (select arg_max(run_id, started_at) from ops.runs)"
        ).fetchall()
        if judged != [(0,)]:
            problems.append("the books of the last run do not balance")
    return problems


def _exactly_once(what: str, found: list[Any], wanted: list[Any], *, may_be_more: bool = False) -> list[str]:
    """The letters of versions of a file that are gone stay, so there may be more of them."""
    there, asked = Counter(found), Counter(wanted)
    lost, more = asked - there, there - asked
    problems = []
    if lost:
        problems.append(f"{lost.total()} {what} are lost, such as {next(iter(lost))}")
    if more and not may_be_more:
        problems.append(f"{more.total()} {what} are too many, such as {next(iter(more))}")
    return problems


def _exports(world: World, wanted: Marts) -> list[str]:
    file = world.root / "exports" / "people.json"
    if not file.exists():
        return ["there is no export"]
    rows = sorted(tuple(row[name] for name in MARTS["people"].split(", ")) for row in json.loads(file.read_text()))
    return [] if rows == wanted["people"] else ["the export is not the mart"]


def _orphans(world: World) -> list[str]:
    work = world.work_dir
    dlt = [folder / "penstock" for folder in (work / "dlt").glob("*/")]
    left = [
        *(work / "tmp").glob("**/*.parquet"),
        *(path for folder in dlt for path in (folder / "load" / "new").glob("*")),
        *(path for folder in dlt for path in (folder / "load" / "normalized").glob("*")),
        *(path for folder in dlt for path in (folder / "normalize" / "extracted").glob("*")),
        *(
            path
            for folder in dlt
            for path in (folder / "normalize").glob("*/")
            if path.name not in ("normalized", "extracted")
        ),
        *(world.root / "exports").rglob("*.unfinished"),
        *work.glob("*.tmp"),
        *(path for path in (world.root / "site").iterdir() if path.suffix != ".html"),
    ]
    problems = [f"{len(left)} orphan files, such as {left[0].relative_to(world.root)}"] if left else []
    deadline = time.monotonic() + LEFT_SECONDS
    while (alive := _processes(world)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return problems + [f"process {pid} is still there" for pid in alive]


def _processes(world: World) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(world.root):
                found.append(process.pid)
    return found


def _difference(found: Marts | None, wanted: Marts) -> str:
    if found is None:
        return "nothing is published"
    parts = []
    for mart, rows in wanted.items():
        lost, more = set(rows) - set(found[mart]), set(found[mart]) - set(rows)
        if lost or more or len(found[mart]) != len(rows):
            parts.append(f"{mart} lacks {sorted(lost, key=repr)[:2]} and has {sorted(more, key=repr)[:2]} besides")
    return "; ".join(parts)
