"""Invented marts of any size in a warehouse, in two versions, and the rows of the first as a CSV file for a server.

A share of the rows differs between the versions: of every ten, eight have another salary, one has gone, one is new.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from benchmarks import SEED
from foundation.settings import Output
from foundation.warehouse import open_warehouse

EMPLOYEES = Output(key=["id"], unique=["email"], indexes=["department"], json_columns=["metadata"])
PAYSLIPS = Output(key=["id"])
OUTPUTS: Mapping[str, Mapping[str, Output]] = {
    "one": {"employees": EMPLOYEES},
    "two": {"employees": EMPLOYEES, "payslips": PAYSLIPS},
}
VERSIONS = (0, 1)

_PARTS = 1_000_000  # shares are counted in these


@dataclass(frozen=True)
class Marts:
    """A warehouse that shows version 0 of its marts and was never published, and its employees as CSV."""

    warehouse: Path
    csv: Path
    rows: int
    added: int
    changed: int
    removed: int

    @property
    def rows_after(self) -> int:
        """Employees in version 1."""
        return self.rows + self.added - self.removed


def make_marts(folder: Path, rows: int, share: float, *, seed: int = SEED) -> Marts:
    """The marts from the cache in `folder`, made first if they are not there; `share` of the rows differs."""
    if rows < 1 or not 0 <= share <= 1:
        raise ValueError(f"no marts have {rows} rows of which a share of {share:g} differs")
    queries = [_employees(rows, share, version, seed) for version in VERSIONS]
    # Another generator or another DuckDB may make other rows, so both are in the name.
    name = hashlib.sha256(f"{queries}{_shown(0)}{_CSV}{duckdb.__version__}".encode()).hexdigest()[:12]
    home = folder / "data" / f"marts-{rows}-{name}"
    if not (home / "expected.json").exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
        try:
            _write(unfinished, rows, share, seed, queries)
            unfinished.chmod(0o755)  # the server that reads the CSV may run as another user
            if not home.exists():  # another process may have made it meanwhile
                unfinished.rename(home)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    expected = json.loads((home / "expected.json").read_text(encoding="utf-8"))
    return Marts(home / "warehouse.duckdb", home / "employees.csv", **expected)


def show_version(warehouse: Path, version: int) -> None:
    """Make the marts anew in another version, as tables, which dbt makes too."""
    with open_warehouse(warehouse) as connection:
        for statement in _shown(version):
            connection.execute(statement)


def sums(warehouse: Path) -> list[list[str]]:
    """Rows and salaries in all of either mart, for each version, as a reader of the marts would find them."""
    with open_warehouse(warehouse, read_only=True) as connection:
        found = []
        for version in VERSIONS:
            row = connection.execute(
                f"select count(*), sum(salary), count(*), sum(salary) from versions.employees_{version}"
            ).fetchone()
            assert row is not None
            found.append([str(value) for value in row])
    return found


def _write(folder: Path, rows: int, share: float, seed: int, queries: list[str]) -> None:
    with open_warehouse(folder / "warehouse.duckdb") as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute("create schema versions")
        connection.execute("create schema marts")
        for version, query in zip(VERSIONS, queries, strict=True):
            connection.execute(f"create table versions.employees_{version} as {query}")
        for statement in _shown(VERSIONS[0]):
            connection.execute(statement)
        connection.execute(f"copy marts.employees to '{folder / 'employees.csv'}' {_CSV}")
        row = connection.execute(
            f"select count(*) filter (where {_is_changed(share, seed)}),"
            f" count(*) filter (where {_is_gone(share, seed)}) from range({rows}) as numbers(i)"
        ).fetchone()
    assert row is not None
    changed, removed = row
    found = Marts(folder, folder, rows, _added(rows, share), changed, removed)
    expected = {name: value for name, value in asdict(found).items() if name not in ("warehouse", "csv")}
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")


_CSV = "(format csv, header false)"


def _shown(version: int) -> tuple[str, str]:
    return (
        f"create or replace table marts.employees as select * from versions.employees_{version}",
        f"create or replace table marts.payslips as select id, salary from versions.employees_{version}",
    )


def _added(rows: int, share: float) -> int:
    return round(rows * share / 10)


def _is_changed(share: float, seed: int) -> str:
    return f"hash(i, {seed}, 20) % {_PARTS} < {round(share * _PARTS * 0.8)}"


def _is_gone(share: float, seed: int) -> str:
    return (
        f"(hash(i, {seed}, 20) % {_PARTS}) between {round(share * _PARTS * 0.8)} and {round(share * _PARTS * 0.9) - 1}"
    )


def _employees(rows: int, share: float, version: int, seed: int) -> str:
    """SQL of the rows of a version, in the types that a mart has."""

    def die(number: int, sides: int) -> str:
        return f"(hash(i, {seed}, {number}) % {sides})::integer"

    def pick(number: int, *words: str) -> str:
        return f"({list(words)})[1 + {die(number, len(words))}]"

    is_changed, is_gone = _is_changed(share, seed), _is_gone(share, seed)
    raised = f"if(i < {rows} and {is_changed}, 1, 0)" if version else "0"
    there = f"range({rows + _added(rows, share)}) as numbers(i) where i >= {rows} or not ({is_gone})"
    return f"""
        select
            'E' || lpad(i::varchar, 9, '0') as id,
            {pick(1, "Ann", "Ben", "Carla", "José", "Zoë", "Łukasz", "Иван", "Karen")} || ' '
                || {pick(2, "Archer", "Bell", "Muñoz", "Smith-Jones", "Wren", "Yates", "Norton", "Kemp")} as name,
            'person.' || i || '@example.com' as email,
            18 + {die(3, 50)} as age,
            {pick(4, "Engineering", "Sales", "Marketing", "HR", "Finance")} as department,
            (30000 + {die(5, 120_000)} + {raised} + {die(6, 100)} / 100.0)::decimal(12, 2) as salary,
            date '2000-01-01' + {die(7, 9400)} as join_date,
            {die(8, 8)} > 0 as is_active,
            timestamp '2021-01-01' + to_seconds({die(9, 157_000_000)}) as reviewed_at,
            if(
                {die(10, 4)} = 0,
                '{{"office": "' || {pick(11, "Northport", "Köln-Süd", "東町", "Hill")} || '", "floor": '
                    || {die(12, 12)} || '}}',
                null
            ) as metadata
        from {there if version else f"range({rows}) as numbers(i)"}"""
