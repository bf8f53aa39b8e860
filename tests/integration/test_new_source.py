"""`penstock new source`: what it writes builds, passes and publishes at once, or nothing is written."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from foundation.errors import ConfigError, StorageError
from operations.scaffold.writing import write_all
from tests.conftest import ROOT, Project, copy_tree, create_database

REAL = ROOT.parent / "shared" / "data"
BIN = Path(sys.executable).parent
PAGE = 10
ORDERS = [
    {
        "id": number,
        "customer name": f"Zoë {number}",
        "total": f"{number}.50",
        "items": [{"sku": "a", "count": number}],
        "paid": number % 2 == 0,
        "count": number,
        "orderedAt": f"2026-01-{number % 28 + 1:02}T10:00:00Z",
        "day": f"2026-01-{number % 28 + 1:02}",
    }
    for number in range(1, 36)
]


@pytest.fixture
def bare(tmp_path: Path, postgres: str) -> Project:
    """A project without any domain, which has never run."""
    return _project(tmp_path, postgres)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Project:
    """The same for all that is refused, since that writes nothing; a file of the test's own lies in its inbox."""
    return _project(tmp_path_factory.mktemp("refused"), postgres)


def _project(folder: Path, postgres: str, domains: Sequence[str] = ()) -> Project:
    return Project(copy_tree(folder / "pen stock", domains), create_database(postgres))


def _new(project: Project, name: str, address: object, *options: str, **environment: str) -> str:
    """What a call says that must go well."""
    done = project.run("new", "source", name, "--from", str(address), *options, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _refused(project: Project, name: str, address: object, *options: str, code: int = 4, **environment: str) -> str:
    """The one line of a call that is refused and writes nothing."""
    before = _tree(project.root)
    done = project.run("new", "source", name, "--from", str(address), *options, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert _tree(project.root) == before
    assert "Traceback" not in done.stdout + done.stderr
    line = done.stderr.removesuffix("\n")
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def _tree(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def _run(project: Project) -> dict[str, dict[str, Any]]:
    """A whole run that must go well; the books of its sources."""
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    books = {source["source"]: source for source in project.summary["sources"]}
    assert all(book["is_balanced"] for book in books.values())
    return books


def _count(project: Project, mart: str) -> int:
    return int(project.query(f"select count(*) from {mart}")[0][0])


def _lint(project: Project, *suites: str) -> None:
    """What was written is as `make lint` wants it."""
    shutil.copy(ROOT / ".sqlfluff", project.root)
    python = ["ruff check expectations", "ruff format --check expectations"]
    for command in ["sqlfluff lint dbt_project --disable-progress-bar", *python]:
        program, *arguments = command.split()
        done = subprocess.run([BIN / program, *arguments], cwd=project.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    if suites:
        modules = [argument for name in suites for argument in ("-m", f"expectations.suites.{name}")]
        done = subprocess.run(
            [BIN / "mypy", "--config-file", "pyproject.toml", *modules],
            cwd=project.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _unit_tests(project: Project) -> int:
    """How many unit tests of dbt pass, of all that there are, over a warehouse that was built."""
    command = [
        str(BIN / "dbt"),
        "test",
        "--select",
        "test_type:unit",
        "--exclude",
        "path:dbt_project/models/*/ingestion",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"PASS=(\d+) WARN=0 ERROR=0", done.stdout)
    assert found is not None
    return int(found.group(1))


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _pages(server: HTTPServer, style: str) -> str:
    """An API that serves the orders page by page, and tells of the next one in its own way; its address."""

    def answer(request: Request) -> Response:
        page = int(request.args.get("page", request.args.get("cursor", "1")))
        start = int(request.args.get("skip", (page - 1) * PAGE))
        records, more = ORDERS[start : start + PAGE], start + PAGE < len(ORDERS)
        following = f"{request.base_url}?page={page + 1}"
        bodies: dict[str, Any] = {
            "link_header": records,
            "next_url": {"results": records, "next": following if more else None},
            "cursor": {"data": {"orders": records}, "meta": {"next_cursor": str(page + 1) if more else None}},
            "page": {"data": records, "total": len(ORDERS)},
            "offset": {"orders": records, "total": len(ORDERS), "limit": PAGE},
        }
        if (style == "offset" and "page" in request.args) or (style == "page" and "skip" in request.args):
            records, bodies = ORDERS[:PAGE], {style: {**bodies[style], "data": ORDERS[:PAGE], "orders": ORDERS[:PAGE]}}
        headers = {"Link": f'<{following}>; rel="next"'} if style == "link_header" and more else {}
        return Response(json.dumps(bodies[style]), headers=headers, content_type="application/json")

    server.expect_request(f"/{style}").respond_with_handler(answer)
    return server.url_for(f"/{style}")


def test_sources_of_every_kind_build_and_are_published_at_once(bare: Project, httpserver: HTTPServer) -> None:
    inbox = bare.root / "inbox"
    flat = [{key: value for key, value in order.items() if key != "items"} for order in ORDERS]
    _write_csv(inbox / "orders.csv", flat)
    (inbox / "orders.json").write_text(json.dumps(ORDERS))
    (inbox / "orders.ndjson").write_text("".join(json.dumps(order) + "\n" for order in ORDERS))
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (from read_json('{inbox / 'orders.ndjson'}')) to '{inbox / 'orders.parquet'}' (format parquet)"
        )
    told = _new(bare, "till__sales", inbox / "orders.csv", "--domain", "sales")
    assert "key id: unique and never empty in 35 records" in told
    _new(bare, "desk__orders", inbox / "orders.json")
    _new(bare, "web__visits", inbox / "orders.ndjson", "--key", "customer_name", "--domain", "visits")
    _new(bare, "lake__rows_of_orders", inbox / "orders.parquet", "--domain", "orders")
    for style in ("link_header", "next_url", "cursor", "page", "offset"):
        told = _new(bare, f"{style.replace('_', '')}__calls", _pages(httpserver, style), "--domain", "calls")
        assert f"pagination {style}: " in told
    entries = yaml.safe_load((bare.root / "penstock.yml").read_text())
    assert entries["sources"]["till__sales"]["path"] == "inbox/orders.csv"
    assert entries["sources"]["cursor__calls"]["records_path"] == "data.orders"
    assert entries["outputs"]["orders"] == {"key": ["id"], "json_columns": ["items"]}
    books = _run(bare)
    assert {name: book["published"] for name, book in books.items()} == dict.fromkeys(books, 35)
    assert len(books) == 9
    marts = [mart for mart in entries["outputs"] if mart not in ("calls",)]
    assert {mart: _count(bare, mart) for mart in marts} == dict.fromkeys(marts, 35)
    row = bare.query(
        "select id, customer_name, total, items, paid, count, day, ordered_at::date from orders where id = '2'"
    )
    assert [str(value) for value in row[0][:3]] == ["2", "Zoë 2", "2.50"]
    assert row[0][3:6] == ([{"sku": "a", "count": 2}], True, 2)
    assert _unit_tests(bare) >= len(books)
    _lint(bare, *entries["sources"], *marts)
    assert _run(bare)["till__sales"]["read"] == 0


def test_a_source_joins_a_domain_that_is_there_with_books_of_its_own(tmp_path: Path, postgres: str) -> None:
    project = _project(tmp_path, postgres, ("employees",))
    lines = [{"Badge No.": f"B{number:03}", "Full Name": f"Ann {number}", "Pay": "$1,000.50"} for number in range(30)]
    _write_csv(project.root / "inbox" / "contractors.csv", lines)
    before = (project.root / "penstock.yml").read_text().splitlines()
    told = _new(project, "agency__employees", "inbox/contractors.csv", "--domain", "employees")
    assert "domain employees was there" in told
    after = (project.root / "penstock.yml").read_text().splitlines()
    rest = iter(after)
    assert all(line in rest for line in before)  # in their order
    tables = project.root / "dbt_project" / "models" / "staging" / "employees" / "_employees__sources.yml"
    assert tables.read_text().count("- name: agency__employees") == 1
    books = _run(project)
    assert (books["agency__employees"]["read"], books["agency__employees"]["published"]) == (30, 30)
    assert books["hr__employees"]["published"] > 0
    assert project.query("select badge_no, full_name, pay::text from agency_employees order by 1 limit 1") == [
        ("B000", "Ann 0", "1000.50")
    ]
    _lint(project)


def test_records_that_break_a_rule_later_are_rejected_and_newer_versions_win(bare: Project) -> None:
    orders = bare.root / "inbox" / "orders.csv"
    _write_csv(orders, [{"order_id": f"o{number}", "amount": f"{number}.5"} for number in range(50)])
    _new(bare, "shop__orders", "inbox/*.csv")
    _run(bare)
    later = [{"order_id": "o1", "amount": "7"}, {"order_id": "o2", "amount": "seven"}, {"order_id": "", "amount": "7"}]
    _write_csv(orders.with_name("later.csv"), later)
    book = _run(bare)["shop__orders"]
    assert (book["read"], book["rejected"], book["duplicates"]) == (3, 2, 0)
    assert bare.query("select amount::text from orders where order_id = 'o1'") == [("7.00",)]
    assert _count(bare, "orders") == 50
    told = bare.run("deadletters", "list", "--ids")
    assert "amount_unreadable" in told.stdout
    assert "order_id_missing" in told.stdout


def test_without_a_key_a_file_counts_in_its_newest_version(bare: Project) -> None:
    pairs = bare.root / "inbox" / "pairs.csv"
    _write_csv(pairs, [{"left": "a", "right": "b"}] * 30)
    assert "key: none was found" in _new(bare, "lab__pairs", "inbox/pairs.csv")
    assert _run(bare)["lab__pairs"]["published"] == 30
    _write_csv(pairs, [{"left": "c", "right": "d"}] * 20)
    assert _run(bare)["lab__pairs"]["read"] == 20
    assert bare.query("select record_left, record_right, count(*) from pairs group by 1, 2") == [("c", "d", 20)]


def _hostile_row(headings: Sequence[str], row: int) -> list[str]:
    """A value for each heading; numbers and days under those that are long."""
    long = {55: str(row), 116: "2026-01-05"}
    return [long.get(len(heading), f"v{row} {{{{ 1 }}}}") for heading in headings]


def test_hostile_names_stay_names(bare: Project) -> None:
    headings = ["select", "SELECT", "", "{{ 1 }}", "'; drop table x; --", "# no", "a: b", "two\nlines", '"', "naïve"]
    headings += ["名前", "id id", "source", "line", "created_at", "1st", "user", "{% raw %}", "order", "group"]
    reserved = "select keyword_name from duckdb_keywords() where keyword_category in ('reserved', 'type_function')"
    headings += [word for (word,) in duckdb.execute(reserved).fetchall()]
    long = "the number of all that was ever counted in this heading"
    headings += [long, f"{long} on the {'very ' * 9}long day"]
    headings += [f"column {number}" for number in range(200 - len(headings))]
    path = bare.root / "inbox" / "{{ 1 }} '#: x.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([headings, *(_hostile_row(headings, row) for row in range(30))])
    keys = ["id", "ID", "a.b", "$type", "it's", 'say "x"', "{{ 1 }}", "back\\slash", "two\nlines", "", "#", "é", "from"]
    records = [{key: f"{key} {number} {{% x %}}" for key in keys} for number in range(30)]
    (bare.root / "inbox" / "odd.json").write_text(json.dumps(records))
    _new(bare, "odd__headings", "inbox/{{ 1 }} '#: x.csv")
    told = _new(bare, "odd__keys", "inbox/odd.json")
    assert told.count("left in raw: ") == 7
    books = _run(bare)
    assert [(book["published"], book["rejected"]) for book in books.values()] == [(30, 0), (30, 0)]
    assert bare.query("select count(distinct record_select), max(record_order) from headings") == [(30, "v9 {{ 1 }}")]
    assert bare.query("select a_b, record_from from keys where id = 'id 7 {% x %}'") == [
        ("a.b 7 {% x %}", "from 7 {% x %}")
    ]
    _lint(bare)
    assert _unit_tests(bare) == 3


def test_fields_that_postgres_cannot_take_stay_in_raw(bare: Project) -> None:
    records = [{"id": number, "text": "a\0b" if number == 7 else "ab", "more": [f"{number}\0"]} for number in range(30)]
    (bare.root / "inbox").mkdir()
    (bare.root / "inbox" / "odd.ndjson").write_text("".join(json.dumps(record) + "\n" for record in records))
    told = _new(bare, "odd__texts", "inbox/odd.ndjson")
    assert told.count("it holds NUL characters, which Postgres does not take") == 2
    assert _run(bare)["odd__texts"]["published"] == 30


def test_the_bundled_api_is_started_for_the_address_that_names_it(tmp_path: Path, postgres: str) -> None:
    told = _new(
        _project(tmp_path, postgres, ("employees",)),
        "talent__staff",
        "${API_BASE_URL}/employees",
        "--domain",
        "staff",
        "--dry-run",
    )
    assert 'url: "${API_BASE_URL}/employees"' in told
    assert "records_path data: the only list of objects in the answer, sure" in told
    assert "pagination link_header: the answer has a Link header, and the second page was there" in told


def test_what_is_there_is_never_overwritten(bare: Project) -> None:
    _write_csv(bare.root / "inbox" / "orders.csv", ORDERS)
    shown = _new(bare, "shop__orders", "inbox/orders.csv", "--dry-run")
    assert "--- dbt_project/models/marts/orders/orders.sql" in shown
    assert "sources:\n\noutputs:\n" in (bare.root / "penstock.yml").read_text()
    _new(bare, "shop__orders", "inbox/orders.csv")
    line = _refused(bare, "shop__orders", "inbox/orders.csv", code=2)
    assert "sources.shop__orders in penstock.yml" in line
    assert "the model stg_shop__orders" in line
    suite = bare.root / "expectations" / "suites" / "till__orders.py"
    suite.write_text('"""Somebody\'s."""\n')
    assert "expectations/suites/till__orders.py" in _refused(bare, "till__orders", "inbox/orders.csv", code=2)


NEW_FILES = {f"models/new/{number}.sql": "select 1\n" * 600 for number in range(6)}


def test_nothing_is_half_written_when_a_name_is_taken_late_or_a_file_changes(tmp_path: Path) -> None:
    (tmp_path / "penstock.yml").write_text("sources:\n")
    edited = {"penstock.yml": (b"sources:\n", b"sources: {}\n")}
    before = _tree(tmp_path)
    with pytest.raises(ConfigError, match="changed meanwhile"):
        write_all(tmp_path, NEW_FILES, {"penstock.yml": (b"what it was\n", b"what it shall be\n")})
    assert _tree(tmp_path) == before
    assert not (tmp_path / "models").exists()
    (tmp_path / "models" / "new").mkdir(parents=True)
    (tmp_path / "models" / "new" / "5.sql").write_text("somebody's")
    before = _tree(tmp_path)
    with pytest.raises(ConfigError, match="is there already"):
        write_all(tmp_path, NEW_FILES, edited)
    assert _tree(tmp_path) == before
    (tmp_path / "models" / "new" / "5.sql").unlink()
    write_all(tmp_path, NEW_FILES, edited)
    assert _tree(tmp_path).keys() == {*NEW_FILES, "penstock.yml"}


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("has_links", [True, False])
def test_nothing_is_half_written_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", _no_links)
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(root)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may make a small disk")
    try:
        (root / "penstock.yml").write_text("sources:\n")
        edited = {"penstock.yml": (b"sources:\n", b"sources: {}\n")}
        for free in (0, 8, 24, 48, *(() if has_links else (76, 100))):  # KB; the files take 60, and copies as much
            (root / "rest").write_bytes(bytes((252 - free) * 1024))
            before = _tree(root)
            with pytest.raises(StorageError, match="nothing was written: No space left"):
                write_all(root, NEW_FILES, edited)
            assert _tree(root) == before
            assert sorted(path.name for path in root.iterdir()) == ["penstock.yml", "rest"]
            (root / "rest").unlink()
        write_all(root, NEW_FILES, edited)
        assert (root / "penstock.yml").read_text() == "sources: {}\n"
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("gone.csv", None, "no file is there"),
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "only blank lines"),
        ("header.csv", b"a,b\n", "a header and no records"),
        ("page.csv", b"<!DOCTYPE html><html>please log in</html>\n", "it is a web page, no data"),
        ("page.json", b"<html>please log in</html>\n", "it is a web page, no data"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "cannot be read"),
        ("book.csv", b"PK\x03\x04" + bytes(100), "a zip archive or a spreadsheet"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc", "cannot be read"),
        ("cut.parquet", b"PAR1" + bytes(50), "no Parquet that can be read"),
        ("none.json", b"[]", "there is no record in it"),
        ("broken.json", b'{"a": 1, \n', "not valid JSON"),
        (
            "wrapped.json",
            b'{"meta": {}, "rows": [{"id": 1}], "more": {"list": [{"id": 2}]}}',
            "rows (1), more.list (1)",
        ),
        ("scalars.ndjson", b"1\n2\n3\n", "not an object"),
    ],
)
def test_a_file_that_holds_no_records_is_refused_in_one_line(
    untouched: Project, name: str, data: bytes, told: str
) -> None:
    file = untouched.root / "inbox" / name
    file.parent.mkdir(exist_ok=True)
    if data is not None:
        file.write_bytes(data)
    assert told in _refused(untouched, "shop__orders", f"inbox/{name}")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, "{}", "404"),
        (401, "{}", "--auth bearer:NAME"),
        (403, "{}", "--auth bearer:NAME"),
        (200, "<html>please log in</html>", "the answer is not JSON"),
        (200, '{"name": "Ann", "tags": ["a"]}', "the answer holds no list of records"),
        (200, '{"a": [{"id": 1}], "b": {"c": [{"id": 1}]}}', "a (1), b.c (1)"),
        (200, "[]", "the answer holds no list of records"),
        (200, "[1, 2]", "no item of the list is an object"),
        (200, '{"data": [{"id": 1}], "total": 900}', "--pagination"),
    ],
)
def test_an_api_that_gives_no_records_is_refused_in_one_line(
    untouched: Project, httpserver: HTTPServer, status: int, body: str, told: str
) -> None:
    httpserver.expect_request("/orders").respond_with_data(body, status=status, content_type="application/json")
    assert told in _refused(untouched, "shop__orders", httpserver.url_for("/orders"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("orders", "x.csv"), "name it <system>__<things>"),
        (("Shop__orders", "x.csv"), "name it <system>__<things>"),
        (("shop__orders", "x.csv", "--domain", "a b"), "no name of a domain"),
        ((f"{'s' * 45}__orders_of_all", "x.csv"), "has 63 at most"),
        (("shop__orders", "http://127.0.0.1:9/x?api_key=secret"), "what looks like a secret"),
        (("shop__orders", "http://ann:secret@127.0.0.1:9/x"), "what looks like a secret"),
        (("shop__orders", "http://127.0.0.1:9/{{ 1 }}"), "blanks or braces"),
        (("shop__orders", "http://127.0.0.1:9/x", "--auth", "bearer:se-cret"), "names of environment variables"),
        (("shop__orders", "x.csv", "--records-path", "data"), "--records-path is for APIs"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_in_one_line(
    untouched: Project, arguments: tuple[str, ...], told: str
) -> None:
    name, address, *options = arguments
    line = _refused(untouched, name, address, *options, code=2)
    assert told in line
    assert "secret@" not in line
    assert "=secret" not in line


def test_a_secret_stays_in_the_environment(bare: Project, httpserver: HTTPServer) -> None:
    server = httpserver.expect_request("/orders", headers={"Authorization": "Bearer sesame-1"})
    server.respond_with_json(ORDERS)
    url = httpserver.url_for("/orders")
    told = _new(bare, "shop__orders", url, "--auth", "bearer:SHOP_TOKEN", SHOP_TOKEN="sesame-1")
    assert "sesame-1" not in told + "".join(map(str, _tree(bare.root).values()))
    assert yaml.safe_load((bare.root / "penstock.yml").read_text())["sources"]["shop__orders"]["auth"] == {
        "type": "bearer",
        "token": "${SHOP_TOKEN}",
    }


REAL_FILES = {
    "lego__sets": ("products/lego_sets.csv", 15_793),
    "lego__parts": ("products/lego_parts.csv", 36_941),
    "jafgen__customers": ("customers/jafgen/raw_customers.csv", 935),
    "mongo__products": ("products/mongo_products.ndjson", 11),
    "mongo__restaurants": ("messy_json/mongo_restaurant.ndjson", 2_548),
    "bestbuy__stores": ("products/bestbuy_stores.json", 1_565),
    "dummyjson__products": ("products/dummyjson_products.json", 194),
    "aws__datasets": ("dataset_catalogue/aws_open_data_registry.ndjson", 1_141),
}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not on this machine")
def test_real_files_are_published_to_the_last_record(bare: Project) -> None:
    for name, (path, _) in REAL_FILES.items():
        _new(bare, name, REAL / path)
    told = _refused(bare, "citm__events", REAL / "messy_json" / "citm_catalog.json")
    assert "performances (243)" in told
    books = _run(bare)
    expected = {name: (count, count, 0) for name, (_, count) in REAL_FILES.items()}
    assert {name: (book["read"], book["published"], book["rejected"]) for name, book in books.items()} == expected
    assert _count(bare, "parts") == 36_941
    assert _count(bare, "dummyjson_products") == 194
    _lint(bare)
