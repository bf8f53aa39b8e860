"""What failed since the last release: the records that thresholds are about, counted from the data itself."""

from foundation.queries import Tables, read_tables
from foundation.warehouse import Warehouse, open_warehouse, quote_identifier
from operations.accounts.books import LATEST_BOOKS, LATEST_CLOSINGS
from operations.letters.found import LETTER_ID, see_loads

# The loads of balanced books since the last release: runs that published nothing count along, because a bad batch stays
# bad when the next run reads nothing new.
_LOADS = f"""
    create or replace temp table loads_counted as
    select loads.load_id, loads.kind, booked.run_id
    from complete_loads as loads
    inner join ops.booked_loads as booked on loads.load_id = booked.load_id
    inner join ops.runs as runs on booked.run_id = runs.run_id
    -- a book that does not balance is made again by the next run, with the same loads in it
    where runs.run_id not in (select open.run_id from {LATEST_BOOKS} as open where not open.is_balanced)
        and runs.run_id not in (select open.run_id from {LATEST_CLOSINGS} as open where not open.is_balanced)
        and started_at > coalesce(
            (select max(started_at) from ops.runs where release_id is not null and run_id <> $run_id),
            timestamptz '-infinity'
        )
"""
# A replay says nothing of how good a batch is: what fails in it again has failed before.
_JUDGED = f"""
    with replays as (
        select loads.source, sum(records_read - records_skipped)::bigint as records
        from complete_loads as loads inner join loads_counted using (load_id)
        where loads.kind = 'replay' group by loads.source
    )
    select
        books.source,
        sum(books.records_read - books.records_skipped)::bigint - coalesce(any_value(replays.records), 0)
    from {LATEST_BOOKS} as books left join replays on books.source = replays.source
    where books.run_id in (select run_id from loads_counted) group by books.source
"""
_PARSED = f"""
    select letters.source, count(distinct letters.dead_letter_id)
    from raw.dead_letters as letters inner join loads_counted as loads on letters.load_id = loads.load_id
    where loads.kind is distinct from 'replay' and {LETTER_ID} not in (select letter_id from letters_settled)
    group by letters.source
"""
_REJECTED = """
    select judged.source, count(*)
    from marts.{model} as judged inner join loads_counted as loads on judged.load_id = loads.load_id
    where judged.outcome = 'rejected' and loads.kind is distinct from 'replay' and not exists (
        select 1 from letters_settled as settled
        where settled.stage = 'rule' and settled.source = judged.source
            and settled.content_hash = judged.content_hash and settled.line = judged.line
    )
    group by judged.source
"""
_SETTLED = """
    create or replace temp table letters_settled as
    select letter_id, stage, source, content_hash, line from ops.dead_letters
    where state in ('resolved', 'discarded')
"""
_NONE_SETTLED = """
    create or replace temp table letters_settled
        (letter_id varchar, stage varchar, source varchar, content_hash varchar, line bigint)
"""


def count_failed(warehouse: Warehouse, run_id: str) -> dict[str, tuple[int, int]]:
    """By source: records dead-lettered or rejected, and those that they are of, all that were read and not skipped.

    Since the last release. Replays do not count, nor do records whose letter the ledger has as resolved or discarded.
    """
    with open_warehouse(warehouse) as connection:
        tables = read_tables(connection)
        see_loads(connection, tables)
        connection.execute(_LOADS, {"run_id": run_id})
        connection.execute(_SETTLED if tables.has("ops.dead_letters") else _NONE_SETTLED)
        judged: dict[str, int] = dict(connection.execute(_JUDGED).fetchall())
        failed = dict.fromkeys(judged, 0)
        for query in _failures(tables):
            for source, count in connection.execute(query).fetchall():
                failed[source] = failed.get(source, 0) + count
    return {source: (count, judged.get(source, 0)) for source, count in failed.items()}


def _failures(tables: Tables) -> list[str]:
    queries = [_PARSED] if tables.has("raw.dead_letters") else []
    models = tables.marts("outcomes_", "source", "load_id", "content_hash", "line", "outcome")
    return queries + [_REJECTED.format(model=quote_identifier(model)) for model in models]
