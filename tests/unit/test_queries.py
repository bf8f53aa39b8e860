"""What is asked of every warehouse: its own tables, the loads that are complete, rows by the names of their columns."""

from pathlib import Path

import duckdb

from foundation.queries import IS_COMPLETE, fetch_dicts, read_tables


def test_tables_are_those_of_the_warehouse_and_of_no_other_database(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("create schema raw; create table raw.loads (load_id varchar, kind varchar)")
        connection.execute("create schema marts; create view marts.rejected_b as select '' as rule")
        connection.execute("create table marts.rejected_a (rule varchar, line bigint)")
        connection.execute("attach ':memory:' as other; create schema other.raw; create table other.raw.gone (i int)")
        tables = read_tables(connection)
    assert tables.columns["marts.rejected_a"] == {"rule": "VARCHAR", "line": "BIGINT"}
    assert (tables.has("raw.loads"), tables.has("raw.loads", "load_id", "kind")) == (True, True)
    assert (tables.has("raw.gone"), tables.has("raw.loads", "load_id", "token")) == (False, False)
    assert tables.marts("rejected_", "rule") == ["rejected_a", "rejected_b"]
    assert tables.marts("rejected_", "line") == ["rejected_a"]


def test_a_load_is_complete_once_it_was_noted_as_such_however_often() -> None:
    with duckdb.connect() as connection:
        connection.execute("create schema raw; create table raw._dlt_loads (load_id varchar, status bigint)")
        connection.execute("insert into raw._dlt_loads values ('d1', 0), ('d1', 0), ('d2', 1)")
        connection.execute("create table raw.loads (load_id varchar, _dlt_load_id varchar)")
        connection.execute("insert into raw.loads values ('one', 'd1'), ('two', 'd2'), ('three', 'd3')")
        found = fetch_dicts(connection, f"select load_id from raw.loads as loads where {IS_COMPLETE}")
    assert found == [{"load_id": "one"}]


def test_rows_come_by_the_names_of_their_columns_and_values_in_either_form() -> None:
    with duckdb.connect() as connection:
        assert fetch_dicts(connection, "select ? as one, 'x' as other", [1]) == [{"one": 1, "other": "x"}]
        assert fetch_dicts(connection, "select $a as one from range(2)", {"a": 1}) == [{"one": 1}, {"one": 1}]
        assert fetch_dicts(connection, "select 1 as one where false") == []
