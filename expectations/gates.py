"""The gates: which suites guard which layer, and how one gate is judged.

A gate is named after the schema that it guards. Its tables are those with a module in expectations/suites that says so;
to judge one more table, add that file. Great Expectations takes seconds to import and is imported only while judging.
"""

import importlib
import logging
import os
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from expectations.checks import MAX_SAMPLES, Check, GateResult, broken, explain, ledger_rows, read_check, reason_of
from expectations.history import History, read_history
from foundation.errors import ConfigError
from foundation.events import Emit, Event, ignore
from foundation.warehouse import Warehouse, open_warehouse

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.data_context import EphemeralDataContext
    from great_expectations.datasource.fluent import SQLDatasource

__all__ = ["GATES", "Check", "GateResult", "explain", "ledger_rows", "read_suite", "run_gate", "table_names", "warm_up"]

GATES = ("raw", "marts")
SUITES = "expectations.suites"

# Written by the pipeline itself, and judged through the tables beside them.
_BOOKKEEPING = ("_dlt_", "dead_letters", "rejected_", "outcomes_")


@dataclass(frozen=True)
class Suite:
    """What a module in expectations/suites says."""

    table: str
    gate: str
    key: tuple[str, ...]
    build: "Callable[[History], ExpectationSuite]"


def warm_up() -> None:
    """Import Great Expectations, so that a process started beside dbt has it ready when the gate is due."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    importlib.import_module("expectations.duckdb_engine")


def run_gate(
    gate: str,
    warehouse: Warehouse,
    *,
    run_id: str,
    failure_threshold_percent: float,
    failure_min_records: int = 1,
    judged_apart: Sequence[str] = (),
    emit: Emit = ignore,
    judged_at: datetime | None = None,
    package: str = SUITES,
) -> GateResult:
    """Judge every suite of `gate` against the warehouse, which is only read and is closed afterwards.

    Fails closed: whatever goes wrong while judging is a critical check that failed, with its reason. Raises ConfigError
    for a gate that does not exist, LockedError or StorageError when the warehouse cannot be opened.
    """
    if gate not in GATES:
        raise ConfigError(f"there is no gate {gate}", fix=f"gates are {', '.join(GATES)}")
    judged_at = judged_at or datetime.now(UTC)
    emit(Event("started", "gate", message=gate))
    if not warehouse.exists():  # a read-only connection cannot make the file, and would not say so clearly
        checks = [broken(gate, gate, "warehouse_is_there", "there is no warehouse yet; nothing was ingested")]
    else:
        with open_warehouse(warehouse, read_only=True) as connection, _quiet():
            try:
                history = read_history(
                    connection,
                    judged_at=judged_at,
                    failure_threshold_percent=failure_threshold_percent,
                    failure_min_records=failure_min_records,
                    judged_apart=judged_apart,
                )
                checks = _judge(gate, connection, history, package, emit)
            except Exception as error:  # noqa: BLE001 (fail closed, whatever it was)
                checks = [broken(gate, gate, "gate_could_be_judged", reason_of(error))]
    is_open = all(check.is_success or not check.is_critical for check in checks)
    result = GateResult(gate, is_open, checks, run_id, judged_at)
    failed = result.failures
    counts = {
        "checks": len(checks),
        "critical_failures": sum(check.is_critical for check in failed),
        "warnings": sum(not check.is_critical for check in failed),
    }
    message = f"gate {gate} is {'open' if is_open else 'closed'}"
    emit(Event("finished" if is_open else "failed", "gate", message=message, counts=counts))
    return result


def table_names(package: str = SUITES) -> list[str]:
    """The tables that have a suite: the names of the modules in `package`."""
    folder = importlib.import_module(package)
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_"))


def read_suite(table: str, package: str = SUITES) -> Suite:
    """The suite of one table. Imports Great Expectations.

    Raises ConfigError for a module that cannot be imported, does not say its GATE, or lacks `build`.
    """
    where = f"{package.replace('.', '/')}/{table}.py"
    try:
        module = importlib.import_module(f"{package}.{table}")
    except Exception as error:
        raise ConfigError(f"the suite cannot be imported: {reason_of(error)}", where=where, fix="mend it") from error
    gate, build = getattr(module, "GATE", None), getattr(module, "build", None)
    if gate not in GATES:
        raise ConfigError(f"GATE is {gate!r}", where=where, fix=f"set it to one of {', '.join(GATES)}")
    if not callable(build):
        raise ConfigError("there is no build(history)", where=where, fix="see expectations/suites/__init__.py")
    return Suite(table, str(gate), tuple(getattr(module, "KEY", ())), build)


def _judge(
    gate: str,
    connection: duckdb.DuckDBPyConnection,
    history: History,
    package: str,
    emit: Emit,
) -> list[Check]:
    warm_up()
    from expectations.duckdb_engine import duckdb_datasource

    suites, checks = _suites(gate, package)
    tables = _tables(connection, gate)
    _notice_unjudged(gate, tables, suites, emit)
    context = _context()
    with duckdb_datasource(context, connection) as source:
        for suite in suites:
            emit(Event("started", "gate", source=suite.table))
            if suite.table in tables:
                judged = _judge_table(suite, history, context, source)
            else:
                judged = [_missing_table(suite, history)]
            failed = sum(not check.is_success for check in judged)
            emit(Event("finished", "gate", source=suite.table, counts={"checks": len(judged), "failed": failed}))
            checks += judged
    return checks or [broken(gate, gate, "gate_has_suites", f"no file in {package} says GATE = {gate!r}")]


def _context() -> "EphemeralDataContext":
    """A context in memory alone, without progress bars and without GX's own report, which loads scripts from afar."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
    )


def _suites(gate: str, package: str) -> tuple[list[Suite], list[Check]]:
    """The suites of `gate`, and a failed check for each module that is none: it may be of any gate, so of this."""
    suites, unsound = [], []
    for table in table_names(package):
        try:
            suite = read_suite(table, package)
        except ConfigError as error:
            unsound.append(broken(gate, table, "suite_is_sound", error.one_line()))
        else:
            suites += [suite] if suite.gate == gate else []
    return suites, unsound


def _judge_table(
    suite: Suite, history: History, context: "EphemeralDataContext", source: "SQLDatasource"
) -> list[Check]:
    """One checkpoint for each table, so that one that dies leaves the others standing."""
    import great_expectations as gx

    try:
        expectations = suite.build(history)
        if expectations.name != suite.table:
            raise ConfigError(f"the suite is named {expectations.name!r}", fix=f"name it {suite.table!r}, as its file")
        if not expectations.expectations:
            raise ConfigError("the suite is empty", fix="give it an expectation, or remove the file")
        asset = source.add_table_asset(suite.table, table_name=suite.table, schema_name=suite.gate)
        definition = gx.ValidationDefinition(
            name=suite.table,
            data=asset.add_batch_definition_whole_table(suite.table),
            suite=context.suites.add(expectations),
        )
        result_format: dict[str, Any] = {"result_format": "COMPLETE", "partial_unexpected_count": MAX_SAMPLES}
        if suite.key:
            result_format["unexpected_index_column_names"] = list(suite.key)
        checkpoint = gx.Checkpoint(
            name=suite.table,
            validation_definitions=[context.validation_definitions.add(definition)],
            result_format=result_format,
        )
        (outcome,) = checkpoint.run().run_results.values()
        results = {result.expectation_config.id: result for result in outcome.results}
        # GX gives them by column; the order of the suite is the one that reads well.
        return [
            read_check(suite.gate, suite.table, expected, results[expected.id])
            for expected in expectations.expectations
        ]
    except Exception as error:  # noqa: BLE001 (fail closed, whatever it was)
        return [broken(suite.gate, suite.table, "checkpoint_ran", reason_of(error))]


def _missing_table(suite: Suite, history: History) -> Check:
    """A table that is not there is critical, but for a source that never loaded while others did.

    Such a source failed or was never reached. Its run reports it and ends with its own exit code, and the other sources
    go on, as they do when it fails later. A mart that is not there, or raw without a single record, always stops.
    """
    never_loaded = suite.gate == "raw" and bool(history.booked_counts) and suite.table not in history.booked_counts
    table = f"{suite.gate}.{suite.table}"
    return Check(
        gate=suite.gate,
        suite=suite.table,
        expectation="table_is_there",
        column=None,
        severity="warning" if never_loaded else "critical",
        is_success=False,
        observed_value=f"table {table} is not there",
        allowed=f"table {table}",
        notes="Its source has never loaded a record." if never_loaded else "Nothing can be judged without it.",
    )


def _notice_unjudged(gate: str, tables: Sequence[str], suites: Sequence[Suite], emit: Emit) -> None:
    judged = {suite.table for suite in suites}
    for table in tables:
        if table not in judged and not table.startswith(_BOOKKEEPING):
            emit(Event("noticed", "gate", source=table, message=f"{gate}.{table} has no suite, so it is not judged"))


def _tables(connection: duckdb.DuckDBPyConnection, schema: str) -> list[str]:
    rows = connection.execute(
        """
        select table_name from information_schema.tables
        where table_catalog = current_database() and table_schema = ? order by table_name
        """,
        [schema],
    ).fetchall()
    return [table for (table,) in rows]


@contextmanager
def _quiet() -> Iterator[None]:
    """GX logs every failed expectation's traceback and warns about itself; the result says it all."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
