"""The gates on a real warehouse: a good batch passes, and each rule has a bad batch that it finds."""

import atexit
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

from expectations.gates import GateResult, explain, ledger_rows, run_gate
from foundation.errors import ConfigError
from foundation.events import Event, ignore
from tests.conftest import copy_tree

pytest.importorskip("great_expectations")

NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
LAST_RUN = NOW - timedelta(days=1)
ROOT = Path(__file__).parents[2]

SOURCES = ("hr__employees", "payroll__employees", "directory__employees", "talent__employees")
_LINEAGE = """
    'in/{source}' as _location, 'hash' as _content_hash, i::bigint as _line,
    '{source}-{run}' as _load_id, timestamptz '{at}' as _loaded_at
"""
_FIELDS = {
    "id": "(1000 + i)::varchar",
    "name": "'Ada Lovelace'",
    "email": "'p' || i || '@example.com'",
    "age": "(20 + i % 40)::varchar",
    "department": "['Engineering', 'Sales', 'Marketing', 'HR', 'Finance'][1 + i % 5]",
    "salary": "(50000 + 100 * i)::varchar",
    "join_date": "'2020-01-02'",
    "is_active": "'yes'",
}
_JSON_NAMES = {"join_date": "joinDate", "is_active": "isActive"}


def make_warehouse(path: Path) -> None:
    """A warehouse as it stands after a good build: one run was released, a second one loaded 40 rows a source."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for schema in ("raw", "marts", "ops"):
            connection.execute(f"create schema {schema}")
        _make_raw(connection)
        _make_marts(connection)
        _make_ledger(connection)


def _make_raw(connection: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(f"{sql} as {name}" for name, sql in _FIELDS.items())
    record = ", ".join(f"'{_JSON_NAMES.get(name, name)}', {sql}" for name, sql in _FIELDS.items())
    for source in SOURCES:
        old = _LINEAGE.format(source=source, run="r1", at=(LAST_RUN - timedelta(minutes=10)).isoformat())
        new = _LINEAGE.format(source=source, run="r2", at=NOW.isoformat())
        shown = columns if source == "hr__employees" else f"json_object({record})::varchar as record"
        connection.execute(f"""
            create table raw.{source} as
            select {shown}, {old} from range(0, 60) as t(i)
            union all
            select {shown}, {new} from range(60, 100) as t(i)
        """)
    connection.execute(f"""
        create table raw.loads as
        select source || '-' || run_id as load_id, run_id, source, 'in/' || source as location,
            records as records_read, records as records_loaded, 0::bigint as records_dead_lettered,
            'csv' as kind, 0::bigint as records_skipped, loaded_at, source || run_id as _dlt_load_id
        from (values ('r1', 60::bigint, timestamptz '{LAST_RUN - timedelta(minutes=10)}'),
                     ('r2', 40::bigint, timestamptz '{NOW}')) as runs(run_id, records, loaded_at)
        cross join (select unnest({list(SOURCES)!r}) as source)
    """)
    connection.execute(
        "create table raw._dlt_loads as select _dlt_load_id as load_id, 0::bigint as status from raw.loads"
    )


def _make_marts(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"""
        create table marts.employees as
        select (1000 + i)::varchar as id, 'Ada Lovelace' as name, 'p' || i || '@example.com' as email,
            (20 + i % 40)::integer as age, {_FIELDS["department"]} as department,
            (50000 + 100 * i)::decimal(12, 2) as salary, date '2015-01-01' + i::integer as join_date,
            i % 10 <> 0 as is_active, case when i % 2 = 0 then '{{}}' end as metadata
        from range(200) as t(i)
    """)
    connection.execute("""
        create table marts.department_headcounts as
        select department, count(*) as count_employees, count(*) filter (where is_active) as count_active_employees,
            sum(salary) as salary_total_usd, round(avg(salary), 2)::decimal(12, 2) as salary_average_usd
        from marts.employees group by department
    """)
    connection.execute(
        "create table marts.outcomes_employees as "
        + " union all ".join(
            f"""select '{source}' as source, _load_id as load_id, split_part(_load_id, '-', 2) as run_id,
                _location as location, 'hash' as content_hash, _line as line, _loaded_at as loaded_at,
                '{source}-' || _line as record_key,
                case when _line % 50 = 49 then 'rejected' else 'accepted' end as outcome from raw.{source}"""
            for source in SOURCES
        )
    )
    connection.execute("create table marts.rejected_employees as select 'x' as record_key limit 0")


def _make_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"""
        create table ops.runs as select 'r1' as run_id, timestamptz '{LAST_RUN - timedelta(minutes=10)}' as started_at,
            timestamptz '{LAST_RUN}' as finished_at, 'succeeded' as status, '1' as release_id;
        insert into ops.runs values ('r2', '{NOW}', null, 'running', null);
        create table ops.mart_books as
            select 'r1' as run_id, 'employees' as mart, 190 as count_candidates, 190 as count_published
            union all select 'r1', 'department_headcounts', 5, 5;
        create table ops.gate_results as
            select 'r1' as run_id, 'marts' as gate, suite, expectation, column_name, observed_value,
                timestamptz '{LAST_RUN - timedelta(minutes=5)}' as checked_at
            from (values
                ('employees', 'expect_column_mean_to_be_between', 'salary', '60000'),
                ('employees', 'expect_measure_to_be_between', 'metadata_filled_pct', '52.5'),
                ('department_headcounts', 'expect_measure_to_be_between', 'sales_share_pct', '19'),
                ('employees', 'expect_column_distinct_values_to_contain_set', 'department', 'all there'),
                ('outcomes_employees', 'expect_column_max_to_be_between', 'loaded_at',
                 '{LAST_RUN - timedelta(minutes=10)}')
            ) as seen(suite, expectation, column_name, observed_value)
    """)


@pytest.fixture(scope="session")
def good_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "good.duckdb"
    make_warehouse(path)
    return path


@pytest.fixture
def warehouse(good_warehouse: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(good_warehouse, tmp_path / "warehouse.duckdb"))


def spoil(warehouse: Path, sql: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(sql)


@cache
def suites_of_employees() -> str:
    """A package with the suites of this domain alone: the tables of the others are not in these warehouses."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(copy_tree(folder / "tree") / "expectations" / "suites", folder / "suites_of_employees")
    sys.path.insert(0, str(folder))
    return "suites_of_employees"


def judge(gate: str, warehouse: Path, **options: Any) -> GateResult:
    options = {
        "package": suites_of_employees(),
        "run_id": "r2",
        "failure_threshold_percent": 10,
        "emit": ignore,
        "judged_at": NOW,
        **options,
    }
    return run_gate(gate, warehouse, **options)


def failed(result: GateResult) -> list[tuple[str, str, str | None, str]]:
    return [(check.suite, check.expectation, check.column, check.severity) for check in result.failures]


@pytest.mark.parametrize("gate", ["raw", "marts"])
def test_a_good_batch_passes_every_check(gate: str, good_warehouse: Path) -> None:
    result = judge(gate, good_warehouse)
    assert explain(result) == []
    assert result.is_open


def test_a_first_run_without_history_passes(warehouse: Path) -> None:
    spoil(warehouse, "drop schema ops cascade")
    assert [explain(judge(gate, warehouse)) for gate in ("raw", "marts")] == [[], []]


MEASURE = "expect_measure_to_be_between"
COUNT = "expect_table_row_count_to_be_between"
MEAN = "expect_column_mean_to_be_between"
ONE_SOURCE = "directory__employees"

RAW_DEFECTS = {
    "lineage_is_lost": (
        "alter table raw.hr__employees drop column _content_hash",
        ("hr__employees", "expect_table_columns_to_match_set", None, "critical"),
    ),
    "record_column_is_renamed": (
        f"alter table raw.{ONE_SOURCE} rename column record to body",
        (ONE_SOURCE, "expect_table_columns_to_match_set", None, "critical"),
    ),
    "rows_were_deleted": (
        "delete from raw.payroll__employees where _line = 70",
        ("payroll__employees", COUNT, None, "critical"),
    ),
    "source_gave_nothing": (
        "delete from raw.loads where source = 'talent__employees'; delete from raw.talent__employees",
        ("talent__employees", COUNT, None, "warning"),
    ),
    "csv_ids_are_empty": (
        "update raw.hr__employees set id = null where _line between 60 and 64",
        ("hr__employees", MEASURE, "id_filled_pct", "warning"),
    ),
    "json_ids_are_empty": (
        f"""update raw.{ONE_SOURCE} set record = replace(record, '"id"', '"ID"') where _line between 60 and 64""",
        (ONE_SOURCE, MEASURE, "id_filled_pct", "warning"),
    ),
    "csv_column_is_empty": (
        "update raw.hr__employees set salary = null where _line >= 60",
        ("hr__employees", MEASURE, "emptiest_column_filled_pct", "warning"),
    ),
    "json_field_is_renamed": (
        """update raw.talent__employees set record = replace(record, 'joinDate', 'joined') where _line >= 60""",
        ("talent__employees", MEASURE, "emptiest_column_filled_pct", "warning"),
    ),
    "source_is_stale": (
        f"update raw.hr__employees set _loaded_at = timestamptz '{NOW - timedelta(days=8)}'",
        ("hr__employees", "expect_column_max_to_be_between", "_loaded_at", "warning"),
    ),
    "lines_are_broken": (
        "update raw.loads set records_dead_lettered = 20 where source = 'hr__employees' and run_id = 'r2'",
        ("loads", MEASURE, "dead_lettered_pct", "warning"),
    ),
    "table_was_dropped": (
        "drop table raw.hr__employees",
        ("hr__employees", "table_is_there", None, "critical"),
    ),
    "source_never_came": (
        "drop table raw.hr__employees; delete from raw.loads where source = 'hr__employees'",
        ("hr__employees", "table_is_there", None, "warning"),
    ),
}

MART_DEFECTS = {
    "employees_are_empty": ("delete from marts.employees", ("employees", COUNT, None, "critical")),
    "employees_are_halved": ("delete from marts.employees where id >= '1094'", ("employees", COUNT, None, "critical")),
    "employees_tripled": (
        "insert into marts.employees select e.* from marts.employees as e, range(2)",
        ("employees", COUNT, None, "warning"),
    ),
    "department_vanished": (
        "update marts.employees set department = 'Sales' where department = 'Marketing'",
        ("employees", "expect_column_distinct_values_to_contain_set", "department", "warning"),
    ),
    "metadata_stopped": (
        "update marts.employees set metadata = null",
        ("employees", MEASURE, "metadata_filled_pct", "warning"),
    ),
    "salary_in_cents": ("update marts.employees set salary = 100 * salary", ("employees", MEAN, "salary", "warning")),
    "salary_drifts": ("update marts.employees set salary = 1.3 * salary", ("employees", MEAN, "salary", "warning")),
    "ages_are_years_of_service": ("update marts.employees set age = age - 25", ("employees", MEAN, "age", "warning")),
    "activity_is_turned_round": (
        "update marts.employees set is_active = not is_active",
        ("employees", MEASURE, "active_pct", "warning"),
    ),
    "join_date_is_a_default": (
        "update marts.employees set join_date = '1970-01-01' where id < '1050'",
        ("employees", MEASURE, "most_common_join_date_pct", "warning"),
    ),
    "headcounts_are_empty": (
        "delete from marts.department_headcounts",
        ("department_headcounts", COUNT, None, "critical"),
    ),
    "department_salary_in_cents": (
        "update marts.department_headcounts set salary_average_usd = 6000000 where department = 'HR'",
        ("department_headcounts", "expect_column_values_to_be_between", "salary_average_usd", "warning"),
    ),
    "department_share_drifts": (
        "update marts.department_headcounts set count_employees = 120 where department = 'Sales'",
        ("department_headcounts", MEASURE, "sales_share_pct", "warning"),
    ),
    "outcomes_are_empty": ("delete from marts.outcomes_employees", ("outcomes_employees", COUNT, None, "critical")),
    "too_many_new_rejected": (
        "update marts.outcomes_employees set outcome = 'rejected' where line between 60 and 64",
        ("outcomes_employees", MEASURE, "rejected_pct", "critical"),
    ),
    "one_source_rejected": (
        "update marts.outcomes_employees set outcome = 'rejected' where line between 60 and 66 and source ~ 'talent.*'",
        ("outcomes_employees", MEASURE, "worst_source_rejected_pct", "warning"),
    ),
    "loaded_in_the_future": (
        f"update marts.outcomes_employees set loaded_at = timestamptz '{NOW + timedelta(days=1)}' where line = 99",
        ("outcomes_employees", "expect_column_max_to_be_between", "loaded_at", "warning"),
    ),
    "mart_is_missing": ("drop table marts.employees", ("employees", "table_is_there", None, "critical")),
}


@pytest.mark.parametrize(
    ("gate", "sql", "found"),
    [("raw", *defect) for defect in RAW_DEFECTS.values()] + [("marts", *defect) for defect in MART_DEFECTS.values()],
    ids=[*RAW_DEFECTS, *MART_DEFECTS],
)
def test_a_defect_is_found(gate: str, sql: str, found: tuple[str, str, str | None, str], warehouse: Path) -> None:
    spoil(warehouse, sql)
    result = judge(gate, warehouse)
    assert found in failed(result)
    assert result.is_open == (not any(severity == "critical" for *_, severity in failed(result)))
    if found[-1] == "warning":
        assert result.is_open, explain(result)


def test_every_rule_has_a_defect_that_it_finds(good_warehouse: Path) -> None:
    found = {
        (gate, *defect[1][1:3])
        for gate, table in (("raw", RAW_DEFECTS), ("marts", MART_DEFECTS))
        for defect in table.values()
    }
    shares = {"engineering_share_pct", "marketing_share_pct", "hr_share_pct", "finance_share_pct"}  # as sales_share_pct
    rules = {
        (check.gate, check.expectation, check.column)
        for gate in ("raw", "marts")
        for check in judge(gate, good_warehouse).checks
        if check.column not in shares
    }
    assert rules <= found


def test_a_line_tells_gate_suite_expectation_column_observed_allowed_reason_and_rows(warehouse: Path) -> None:
    spoil(warehouse, MART_DEFECTS["department_salary_in_cents"][0])
    (line,) = explain(judge("marts", warehouse))
    assert line == (
        "marts gate, suite department_headcounts: expect_column_values_to_be_between of salary_average_usd is "
        "20% unexpected (1 of 5 rows), allowed is 15000 to 400000 (warning). Wider than for the whole staff, as a "
        "department is small: beyond it one unit of pay is wrong. Rows: department=HR, salary_average_usd=6000000.0"
    )


def test_rejected_records_are_shown_with_where_they_came_from(warehouse: Path) -> None:
    spoil(warehouse, MART_DEFECTS["too_many_new_rejected"][0])
    (check,) = [check for check in judge("marts", warehouse).failures if check.is_critical]
    assert (check.count_elements, check.count_unexpected, len(check.samples)) == (160, 24, 5)
    assert set(check.samples[0]) == {"source", "location", "line", "key"}
    assert {row["line"] for row in check.samples} == {60, 61, 62, 63, 64}


def test_a_run_that_a_gate_stopped_is_stopped_again_without_new_rows(warehouse: Path) -> None:
    spoil(warehouse, MART_DEFECTS["too_many_new_rejected"][0])
    first = judge("marts", warehouse)
    later = (NOW + timedelta(hours=1)).isoformat()
    spoil(
        warehouse,
        f"""
        update ops.runs set status = 'failed', finished_at = '{NOW}' where run_id = 'r2';
        insert into ops.runs values ('r3', '{later}', null, 'running', null);
        insert into ops.gate_results select 'r2', 'marts', 'outcomes_employees', 'x', 'x', '1', '{NOW}'
        """,
    )
    again = judge("marts", warehouse, run_id="r3", judged_at=NOW + timedelta(hours=1))
    assert (first.is_open, again.is_open) == (False, False)
    assert failed(first) == failed(again)


def test_rejected_records_of_a_release_count_no_more(warehouse: Path) -> None:
    spoil(warehouse, "update marts.outcomes_employees set outcome = 'rejected' where line < 60")
    assert judge("marts", warehouse).is_open
    spoil(warehouse, "update ops.runs set release_id = null")
    assert not judge("marts", warehouse).is_open


def test_a_rejected_record_that_a_later_load_sets_right_counts_no_more(warehouse: Path) -> None:
    spoil(warehouse, MART_DEFECTS["too_many_new_rejected"][0])
    repair = f"""
        insert into marts.outcomes_employees
        select * replace (timestamptz '{NOW + timedelta(hours=1)}' as loaded_at, 'accepted' as outcome)
        from marts.outcomes_employees where line between 60 and 64
    """
    assert not judge("marts", warehouse).is_open
    spoil(warehouse, repair)
    assert judge("marts", warehouse).is_open
    spoil(warehouse, "update marts.outcomes_employees set record_key = null where line between 60 and 64")
    assert not judge("marts", warehouse).is_open  # without a key nobody can tell that it is the same record


def test_replays_that_fail_again_count_for_nothing(warehouse: Path) -> None:
    spoil(
        warehouse,
        f"""
        insert into raw.loads
            select * replace ('replay' as load_id, 'replay' as kind, timestamptz '{NOW}' as loaded_at)
            from raw.loads limit 1;
        insert into marts.outcomes_employees
            select * replace ('replay' as load_id, 'again' as content_hash, 'rejected' as outcome)
            from marts.outcomes_employees where line between 60 and 99 and source = 'hr__employees';
        """,
    )
    assert judge("marts", warehouse).is_open
    spoil(warehouse, "update raw.loads set kind = 'csv' where load_id = 'replay'")
    assert not judge("marts", warehouse).is_open


@pytest.mark.parametrize(("state", "is_open"), [("open", False), ("resolved", True), ("discarded", True)])
def test_rejected_records_whose_letters_are_settled_count_no_more(warehouse: Path, state: str, is_open: bool) -> None:
    spoil(warehouse, MART_DEFECTS["too_many_new_rejected"][0])
    spoil(
        warehouse,
        f"""
        create table ops.dead_letters as
            select source, content_hash, line, 'rule' as stage, '{state}' as state
            from marts.outcomes_employees where line between 60 and 64
        """,
    )
    assert judge("marts", warehouse).is_open is is_open


@pytest.mark.parametrize("minutes", [9, 1])
def test_what_came_while_a_release_was_under_way_is_the_next_ones_to_judge(warehouse: Path, minutes: int) -> None:
    at = LAST_RUN - timedelta(minutes=minutes)
    spoil(warehouse, f"update marts.outcomes_employees set outcome = 'rejected', loaded_at = '{at}' where line < 10")
    assert not judge("marts", warehouse).is_open


def test_a_clock_that_was_wrong_hides_nothing(warehouse: Path) -> None:
    spoil(warehouse, "update ops.gate_results set observed_value = '2030-01-01' where column_name = 'loaded_at'")
    assert judge("marts", warehouse).is_open
    spoil(warehouse, MART_DEFECTS["too_many_new_rejected"][0])
    assert not judge("marts", warehouse).is_open


def test_a_record_without_a_time_of_loading_is_judged(warehouse: Path) -> None:
    spoil(warehouse, "update marts.outcomes_employees set outcome = 'rejected', loaded_at = null where line < 20")
    assert not judge("marts", warehouse).is_open


def test_the_threshold_is_allowed_and_more_is_not(warehouse: Path) -> None:
    spoil(warehouse, MART_DEFECTS["too_many_new_rejected"][0])  # 24 of 160: line 99 is rejected anyway
    assert judge("marts", warehouse, failure_threshold_percent=15).is_open
    assert not judge("marts", warehouse, failure_threshold_percent=14.99).is_open


def test_nothing_in_raw_closes_the_gate(warehouse: Path) -> None:
    spoil(warehouse, "drop schema raw cascade")
    result = judge("raw", warehouse)
    assert not result.is_open
    assert {check.severity for check in result.failures} == {"critical"}


def test_no_warehouse_closes_the_gate_and_makes_no_file(tmp_path: Path) -> None:
    result = judge("raw", tmp_path / "none" / "w.duckdb")
    assert not result.is_open
    assert not (tmp_path / "none").exists()


def test_an_unknown_gate_is_an_error(warehouse: Path) -> None:
    with pytest.raises(ConfigError, match="gates are raw, marts"):
        judge("mart", warehouse)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """A package of suites with one table, `employees`, whose module is the given text."""
    folder = tmp_path / f"suites_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> str:
        (folder / f"{name}.py").write_text(text)
        return folder.name

    return write


SUITE = """
import great_expectations as gx
import great_expectations.expectations as gxe
from expectations.measure import ExpectMeasureToBeBetween
GATE = "marts"
KEY = ("id",)
def build(history):
    return gx.ExpectationSuite(name="employees", expectations=[{}])
"""
BROKEN = {
    "sql_error_in_a_warning": SUITE.format(
        'gxe.UnexpectedRowsExpectation(unexpected_rows_query="select nonsense from {batch}", severity="warning")'
    ),
    "unknown_column_in_a_warning": SUITE.format(
        'gxe.ExpectColumnMeanToBeBetween(column="no", max_value=1, severity="warning")'
    ),
    "gx_dies_in_the_checkpoint": SUITE.format(
        "gxe.ExpectColumnQuantileValuesToBeBetween(column='age', severity='warning', "
        "quantile_ranges={'quantiles': [0.5], 'value_ranges': [[0, 100]]})"
    ),
    "measure_is_null": SUITE.format('ExpectMeasureToBeBetween(measure="m", query="select max(null) from {batch}")'),
    "measure_has_many_rows": SUITE.format(
        'ExpectMeasureToBeBetween(measure="m", query="select age from {batch}", severity="warning")'
    ),
    "suite_is_empty": SUITE.format(""),
    "suite_is_misnamed": SUITE.format("gxe.ExpectTableRowCountToBeBetween(min_value=1)").replace(
        '="employees"', '="staff"'
    ),
    "module_has_no_gate": "def build(history): ...",
    "module_has_another_gate": "GATE = 'mart'\ndef build(history): ...",
    "module_has_no_build": "GATE = 'marts'",
    "module_cannot_be_imported": "import no_such_module",
    "build_raises": "GATE = 'marts'\ndef build(history): raise ValueError('no bounds')",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_whatever_cannot_be_judged_closes_the_gate(
    text: str, package: Callable[[str, str], str], good_warehouse: Path
) -> None:
    result = judge("marts", good_warehouse, package=package("employees", text))
    assert not result.is_open
    (check,) = result.checks
    assert (check.suite, check.severity, check.is_success) == ("employees", "critical", False)
    (line,) = explain(result)
    assert len(line) < 1500


def test_a_broken_expectation_leaves_the_others_judged(
    package: Callable[[str, str], str], good_warehouse: Path
) -> None:
    text = SUITE.format(
        'gxe.UnexpectedRowsExpectation(unexpected_rows_query="select nonsense from {batch}"), '
        "gxe.ExpectTableRowCountToBeBetween(min_value=1)"
    )
    result = judge("marts", good_warehouse, package=package("employees", text))
    assert [check.is_success for check in result.checks] == [False, True]
    assert "nonsense" in result.checks[0].notes


def test_a_suite_without_a_gate_closes_every_gate(package: Callable[[str, str], str], good_warehouse: Path) -> None:
    package("employees", SUITE.format("gxe.ExpectTableRowCountToBeBetween(min_value=1)"))
    result = judge("marts", good_warehouse, package=package("staff", "GATE = None"))
    assert [(check.suite, check.is_success) for check in result.checks] == [("staff", False), ("employees", True)]


def test_a_gate_without_a_suite_is_closed(package: Callable[[str, str], str], good_warehouse: Path) -> None:
    name = package("employees", SUITE.format("gxe.ExpectTableRowCountToBeBetween(min_value=1)"))
    assert not judge("raw", good_warehouse, package=name).is_open


def test_samples_are_few_short_and_hold_the_key(package: Callable[[str, str], str], warehouse: Path) -> None:
    spoil(warehouse, "update marts.employees set name = repeat('x', 100000)")
    text = SUITE.format(
        "gxe.ExpectColumnValuesToBeInSet(column='name', value_set=['Ada']), "
        'gxe.UnexpectedRowsExpectation(unexpected_rows_query="select id, name from {batch}")'
    )
    result = judge("marts", warehouse, package=package("employees", text))
    for check in result.checks:
        assert len(check.samples) == 5
        assert check.count_unexpected == 200
        assert [set(row) for row in check.samples] == [{"id", "name"}] * 5
        assert max(len(str(row["name"])) for row in check.samples) == 200


def test_a_check_that_is_about_rows_tells_how_to_find_all_of_them(
    package: Callable[[str, str], str], warehouse: Path
) -> None:
    spoil(warehouse, "update marts.employees set name = 'it''s ' || id")
    text = SUITE.format(
        "gxe.ExpectColumnValuesToBeInSet(column='name', value_set=['Ada']), "
        'gxe.UnexpectedRowsExpectation(unexpected_rows_query="select id from {batch} where age < 50"), '
        "ExpectMeasureToBeBetween(measure='m', query='select count(*) from {batch}', max_value=1, "
        "rows_query='select id from {batch} where age > 50'), "
        "gxe.ExpectTableRowCountToBeBetween(max_value=1), gxe.ExpectColumnValuesToNotBeNull(column='id')"
    )
    result = judge("marts", warehouse, package=package("employees", text))
    queries = [check.rows_query for check in result.checks]
    assert [query is None for query in queries] == [False, False, False, True, True]
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = [connection.execute(f"select count(*) from ({query})").fetchone() for query in queries[:3]]
        due = connection.execute(
            "select count(*), count(*) filter (where age < 50), count(*) filter (where age > 50) from marts.employees"
        ).fetchone()
    assert tuple(count for (count,) in found) == due


def test_ledger_rows_are_json_and_know_their_run(warehouse: Path) -> None:
    spoil(warehouse, MART_DEFECTS["join_date_is_a_default"][0])
    rows = ledger_rows(judge("marts", warehouse))
    (row,) = [row for row in rows if not row["is_success"]]
    assert json.loads(json.dumps(rows)) == rows
    assert {key: row[key] for key in ("run_id", "gate", "suite", "column_name", "severity", "checked_at")} == {
        "run_id": "r2",
        "gate": "marts",
        "suite": "employees",
        "column_name": "most_common_join_date_pct",
        "severity": "warning",
        "checked_at": NOW.isoformat(),
    }
    assert row["samples"] == [{"join_date": "1970-01-01"}]
    assert (row["observed_value"], row["count_elements"], row["count_unexpected"]) == ("25", 200, 50)


def test_what_one_release_saw_is_the_next_ones_history(warehouse: Path) -> None:
    """The names by which a suite looks up its history are those under which the ledger keeps it."""
    rows = ledger_rows(judge("marts", warehouse))
    kept = {(row["suite"], row["expectation"], row["column_name"]) for row in rows}
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        looked_up = connection.execute("select suite, expectation, column_name from ops.gate_results").fetchall()
    assert set(looked_up) <= kept


def test_a_gate_emits_its_progress_and_its_verdict(warehouse: Path) -> None:
    spoil(warehouse, "delete from marts.employees; create table marts.strays as select 1 as id")
    events: list[Event] = []
    judge("marts", warehouse, emit=events.append)
    assert [(event.name, event.source) for event in events] == [
        ("started", None),
        ("noticed", "strays"),
        ("started", "department_headcounts"),
        ("finished", "department_headcounts"),
        ("started", "employees"),
        ("finished", "employees"),
        ("started", "outcomes_employees"),
        ("finished", "outcomes_employees"),
        ("failed", None),
    ]
    assert events[-1].message == "gate marts is closed"


def test_the_gate_is_silent_needs_no_network_and_leaves_nothing_behind(
    warehouse: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    spoil(warehouse, MART_DEFECTS["employees_are_empty"][0])
    before = warehouse.read_bytes()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(socket.socket, "connect", None)  # whoever calls it fails
    judge("raw", warehouse)
    judge("marts", warehouse)
    assert list(Path(tempfile.gettempdir()).iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert warehouse.read_bytes() == before
    assert not warehouse.with_suffix(".duckdb.wal").exists()
    other_process = f"import duckdb; duckdb.connect({str(warehouse)!r}).execute('create table t as select 1')"
    subprocess.run([sys.executable, "-c", other_process], check=True, timeout=60)
    with duckdb.connect(str(warehouse), config={"threads": 1}) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (1,)


def test_great_expectations_alone_still_cannot_read_duckdb(good_warehouse: Path) -> None:
    """When this fails, expectations/duckdb_engine.py can go."""
    import great_expectations as gx
    import great_expectations.expectations as gxe

    context = gx.get_context(mode="ephemeral")
    assert not hasattr(context.data_sources, "add_duckdb"), "GX has its own DuckDB data source now: use it"
    source = context.data_sources.add_sql(name="plain", connection_string=f"duckdb:///{good_warehouse}")
    try:
        asset = source.add_table_asset("employees", table_name="employees", schema_name="marts")
        batch = asset.add_batch_definition_whole_table("employees").get_batch()
        result = batch.validate(gxe.ExpectTableRowCountToBeBetween(min_value=1))
    finally:
        source.get_execution_engine().close()
        source.get_engine().dispose()
    assert not result.success, "GX keeps the DuckDB connection now: use its own SQL data source"


def test_a_changed_great_expectations_is_told_and_closes_the_gate(
    good_warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from great_expectations.execution_engine import SqlAlchemyExecutionEngine

    from expectations.duckdb_engine import DuckDBExecutionEngine

    monkeypatch.setattr(DuckDBExecutionEngine, "get_connection", SqlAlchemyExecutionEngine.get_connection)
    result = judge("raw", good_warehouse)
    assert not result.is_open
    assert "does not fit great-expectations" in explain(result)[0]


def test_no_table_is_read_into_memory(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a table was read into pandas")

    for name in ("read_sql", "read_sql_table", "read_sql_query"):
        monkeypatch.setattr(pandas, name, refuse)
    spoil(warehouse, "insert into marts.employees select e.* from marts.employees as e, range(1000)")
    assert judge("marts", warehouse).is_open


def test_importing_the_gates_does_not_import_great_expectations() -> None:
    code = "import sys, expectations.gates; sys.exit('great_expectations' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
