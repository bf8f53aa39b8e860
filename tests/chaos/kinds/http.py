"""4. An API that breaks at its first, a middle or its last page: all data or a clear failure, never a short success."""

import json
import socket
from collections.abc import Callable, Iterator

from tests import fault_server
from tests.chaos import oracle
from tests.chaos.context import Context
from tests.chaos.engine import Round, World
from tests.fault_server import HARMLESS, LAST_PAGE, LASTING, PASSING, answer, page_body

TITLE = "an API that breaks"
PAGES = (1, 3, LAST_PAGE)
RECORDS = fault_server.PAGE_SIZE * (LAST_PAGE - 1) + 1
Fault = Callable[[socket.socket, int], None]


def _twice(connection: socket.socket, number: int) -> None:
    body = json.loads(page_body(number))
    body["data"] = [body["data"][0]] * len(body["data"])
    connection.sendall(answer(json.dumps(body).encode()))


def _lead_on(connection: socket.socket, number: int) -> None:
    connection.sendall(answer(page_body(number, next=f"/people?page={number + 1}")))


def _no_end(connection: socket.socket, number: int) -> None:
    connection.sendall(answer(page_body(number, next="/people?page=1")))


BACK = "a link that leads back"
ODD: dict[str, Fault] = {"the same id twice": _twice, BACK: _no_end}


def rounds(context: Context) -> Iterator[Round]:
    """Every fault at every page; one that passes happens once, and in another round for good."""
    cases: list[tuple[str, Fault, int, int]] = []
    for page in PAGES:
        cases += [(f"{name}, once", fault, page, 1) for name, fault in PASSING.items()]
        cases += [(name, fault, page, 1_000_000) for name, fault in {**PASSING, **LASTING, **HARMLESS, **ODD}.items()]
    for case in context.chosen(cases, "http", short=4):
        yield _round(context, *case)


def _round(context: Context, name: str, fault: Fault, page: int, times: int) -> Round:
    api = context.engine.api
    world = context.engine.base("duckdb", "first").clone()
    try:
        if name == BACK:
            _follow_links(world)
        api.asked.clear()
        links = dict.fromkeys(range(1, LAST_PAGE), _lead_on) if name == BACK else {}
        api.faults, api.times = {**links, page: fault}, times
        done = world.run("ingest")
        api.faults = {}
        problems = []
        if done.code not in (0, 4):
            problems.append(f"neither read nor told: {done.told}")
        if "Traceback" in done.output:
            problems.append(f"a traceback: {done.told}")
        if done.code == 0 and name not in ODD and (count := _records(world)) != RECORDS:
            problems.append(f"a short success: {count} of {RECORDS} records")
        if name in HARMLESS and done.code:
            problems.append(f"refused what is whole: {done.told}")
        if name == BACK and done.code != 4:
            problems.append(f"a walk without an end is not told: {done.told}")
        if name == BACK:
            (world.root / "penstock.yml").write_text(
                (context.engine.base("duckdb", "first").root / "penstock.yml").read_text()
            )
        return Round(f"{name}, page {page}", problems + oracle.rerun_and_check(world))
    finally:
        api.faults = {}
        world.remove()


def _follow_links(world: World) -> None:
    file = world.root / "penstock.yml"
    text = file.read_text()
    paging = "{ type: page, size: 2, total_path: total }"
    assert paging in text
    file.write_text(text.replace(paging, "{ type: next_url, next_path: next }"))


def _records(world: World) -> int:
    import duckdb

    with duckdb.connect(str(world.work_dir / "warehouse.duckdb"), read_only=True) as connection:
        row = connection.execute("select count(distinct record ->> 'id') from raw.web__people").fetchone()
    return int(row[0]) if row else 0
