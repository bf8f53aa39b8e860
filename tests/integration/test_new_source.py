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
