"""10. What is known is lost, old or wrong: folders, tables, yesterday's warehouse, clocks, times and growing files."""

import gzip
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import duckdb

from foundation.warehouse import open_warehouse, warehouse_at
from tests.chaos import oracle, people
from tests.chaos.context import Context
from tests.chaos.engine import Kind, Round, World

TITLE = "state that is lost, old or wrong"


def rounds(context: Context) -> Iterator[Round]:
    """Every case, in the whole form on a world that ran once, with what is new beside it."""
    for name, case in context.chosen(list(CASES.items()), "state", short=2):
        world = context.engine.base("duckdb", "incremental").clone()
        try:
            yield Round(name, case(world))
        finally:
            world.remove()
    if not context.is_short:
        for kind in ("duckdb", "postgres"):
            yield loud(context, kind)
        yield uncounted(context)


def _rerun(world: World) -> list[str]:
    return oracle.rerun_and_check(world)


def _work_folder(world: World) -> list[str]:
    """All but the target is gone: everything is read again."""
    shutil.rmtree(world.work_dir)
    return _rerun(world)


def _dlt_folder(world: World) -> list[str]:
    shutil.rmtree(world.work_dir / "dlt")
    return _rerun(world)


def _state_table(world: World) -> list[str]:
    with duckdb.connect(str(world.work_dir / "warehouse.duckdb")) as connection:
        connection.execute("drop table raw._dlt_pipeline_state")
    return _rerun(world)


def _memory_of_published(world: World) -> list[str]:
    with duckdb.connect(str(world.work_dir / "warehouse.duckdb")) as connection:
        connection.execute("drop schema published cascade")
    return _rerun(world)


def _ledger(world: World) -> list[str]:
    with duckdb.connect(str(world.work_dir / "warehouse.duckdb")) as connection:
        connection.execute("drop schema ops cascade")
    return _rerun(world)


def _yesterday(world: World) -> list[str]:
    """The warehouse of before the last run, while target and work folder are those of after it."""
    file = world.work_dir / "warehouse.duckdb"
    held = world.root / "held.duckdb"
    shutil.copy(file, held)
    done = world.run("run")
    if done.code:
        return [f"the run failed: {done.told}"]
    shutil.copy(held, file)
    return _rerun(world)


def _target_lost(world: World) -> list[str]:
    """The target is a new, empty database."""
    old, world.dsn = world.dsn, world.engine.database()
    world.engine.drop(old)
    return _rerun(world)


def _clock_back(world: World) -> list[str]:
    """The last loads bear a time an hour ahead of ours."""
    with duckdb.connect(str(world.work_dir / "warehouse.duckdb")) as connection:
        for table in ("loads", "hr__people", "lab__people", "web__people"):
            name = "loaded_at" if table == "loads" else "_loaded_at"
            connection.execute(f"update raw.{table} set {name} = {name} + interval 1 hour")
    return _rerun(world)


def _late_with_old_time(world: World) -> list[str]:
    world.files.lines["hr_0.csv"] = people.make_lines(world.engine.chance("late"), 30, 60, 5, ".csv")
    world.files.write(world.inbox, "hr_0.csv")
    os.utime(world.inbox / "hr_0.csv", (1_500_000_000, 1_500_000_000))
    return _rerun(world)


def _same_time_new_content(world: World) -> list[str]:
    done = world.run("run")
    file = world.inbox / "hr_3.csv"
    about = file.stat()
    world.files.lines["hr_3.csv"] = [
        replace(line, team=line.team[::-1]) if line.is_good else line  # as long as before
        for line in world.files.lines["hr_3.csv"]
    ]
    world.files.write(world.inbox, "hr_3.csv")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    problems = [] if file.stat().st_size == about.st_size else ["the file is not as long as before"]
    return problems + ([f"the run failed: {done.told}"] if done.code else []) + _rerun(world)


def _grows_while_read(world: World) -> list[str]:
    """Lines are appended in pieces that are no whole lines while a run goes on."""
    name = "hr_1.csv"
    there = len(world.files.content(name))
    world.files.lines[name] += people.make_lines(world.engine.chance("grows"), 3000, 600, 6, ".csv")
    more = world.files.content(name)[there:]

    def grow() -> None:
        with (world.inbox / name).open("ab", buffering=0) as file:
            for place in range(0, len(more), 777):
                file.write(more[place : place + 777])
                time.sleep(0.005)

    thread = threading.Thread(target=grow)
    thread.start()
    done = world.run("run")
    thread.join()
    problems = [] if done.code in (0, 4) else [f"it failed: {done.told}"]
    return problems + _rerun(world)


def _moved(world: World) -> list[str]:
    """The project lies in another folder."""
    root = world.root.with_name(f"{world.root.name} moved")
    world.root.rename(root)
    world.root = root
    return _rerun(world)


def _renamed_file(world: World) -> list[str]:
    """A file that was read has another name: it is not read twice."""
    done = world.run("run")
    (world.inbox / "hr_2.csv").rename(world.inbox / "hr_9.csv")
    return ([f"the run failed: {done.told}"] if done.code else []) + _rerun(world)


def _cut_packed(world: World) -> list[str]:
    """A packed file that came in half is no short file; the other half comes later."""
    file = world.inbox / "hr_3.csv"
    packed = gzip.compress(file.read_bytes(), 9)
    file.write_bytes(packed[: len(packed) // 2])
    done = world.run("run")
    problems = [] if done.code == 4 else [f"a packed file that is cut is not told: {done.told}"]
    file.write_bytes(packed)
    return problems + _rerun(world)


def loud(context: Context, kind: Kind) -> Round:
    """Rows that somebody deletes from raw are told, and nothing is published."""
    world = context.engine.base(kind, "incremental").clone()
    try:
        before = oracle.published(world)
        with open_warehouse(
            warehouse_at(world.warehouse_url or str(world.work_dir / "warehouse.duckdb"))
        ) as connection:
            connection.execute("delete from raw.hr__people where _line % 7 = 0")
        done = world.run("run")
        problems = [] if done.code in (6, 8) else [f"rows that are gone from raw are not told: {done.told}"]
        if oracle.published(world) != before:
            problems.append("it was published all the same")
        return Round(f"rows gone from raw are loud, {kind}", problems)
    finally:
        world.remove()


def uncounted(context: Context) -> Round:
    """Records that no model counts are told, and nothing is published."""
    world = context.engine.base("duckdb", "incremental").clone()
    try:
        before = oracle.published(world)
        model = world.root / "dbt_project" / "models" / "marts" / "people" / "outcomes_people.sql"
        model.write_text(model.read_text().replace("from judged\n", "from judged\n    where judged.line % 7 <> 0\n"))
        done = world.run("run")
        problems = [] if done.code == 8 else [f"records without an outcome are not told: {done.told}"]
        if oracle.published(world) != before:
            problems.append("it was published all the same")
        return Round("an imbalance is loud", problems)
    finally:
        world.remove()


CASES: dict[str, Callable[[World], list[str]]] = {
    "the work folder is gone": _work_folder,
    "dlt's folder is gone": _dlt_folder,
    "dlt's state table is gone": _state_table,
    "the memory of what was published is gone": _memory_of_published,
    "the ledger is gone": _ledger,
    "yesterday's warehouse": _yesterday,
    "the target is new": _target_lost,
    "the clock is an hour back": _clock_back,
    "a late file with an old time": _late_with_old_time,
    "the same time with new content": _same_time_new_content,
    "a file that grows while it is read": _grows_while_read,
    "the project moved": _moved,
    "a file renamed": _renamed_file,
    "a packed file that is cut": _cut_packed,
}
