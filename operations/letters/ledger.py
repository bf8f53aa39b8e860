"""The ledger of dead letters, `ops.dead_letters`: found in the data by set operations, with the state of each.

One row per letter. Its id stays the same however often the letter is found. What people do is in `ops.letter_events`;
what replays came to is told by the rows and letters of their own loads.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import duckdb
import structlog

from foundation.errors import LockedError, PenstockError
from foundation.queries import Tables, read_tables
from foundation.settings import Settings
from foundation.warehouse import Warehouse, hold_warehouse, open_warehouse
from operations.ledger import widen
from operations.letters.found import (
    LETTER_ID,
    MARK,
    rows_of_raw,
    see_loads,
    see_outcomes,
    see_rejected,
)
from operations.letters.gates import rows_of_gates
from operations.lock import run_lock

OPEN, REPLAYED, RESOLVED, DISCARDED = STATES = ("open", "replayed", "resolved", "discarded")
STAGES = ("fetch", "parse", "rule", "gate")
DISCARD, JUDGE = "discarded", "judged anew"

_TABLES = """
    create schema if not exists ops;
    create table if not exists ops.dead_letters (
        letter_id varchar not null, source varchar, stage varchar not null, location varchar, line bigint, page bigint,
        byte_offset bigint, byte_length bigint, content_hash varchar, load_id varchar, run_id varchar,
        record_key varchar, reasons varchar, message varchar, attempts bigint, first_seen timestamptz,
        last_seen timestamptz, state varchar not null, resolution varchar, corrected varchar, record varchar,
        record_bytes blob, last_run_id varchar
    );
    create table if not exists ops.letter_events (
        letter_id varchar not null, event varchar not null, run_id varchar, happened_at timestamptz not null,
        note varchar
    );
    create table if not exists ops.letter_tries (
        letter_id varchar not null, load_id varchar not null, run_id varchar, tried_at timestamptz not null,
        outcome varchar not null, reasons varchar, message varchar
    );
    create table if not exists ops.letter_loads (load_id varchar not null);
"""
# What `found` holds of a letter; the ledger adds state, resolution and the record.
_FOUND = (
    "letter_id, source, stage, location, line, page, byte_offset, byte_length, content_hash, load_id, run_id, "
    "record_key, reasons, message, attempts, first_seen, last_seen, last_run_id"
)
# When a place was read anew, as a new version of its file or as a page with records.
_PLACES = """
    select
        source, location,
        max(loaded_at) filter (where kind not in ('api', 'replay') and start_bytes = 0) as started_at,
        max(loaded_at) filter (where kind = 'api' and records_skipped < records_read) as page_read_at
    from complete_loads group by source, location
"""
# Of the stages fetch and parse, the letters that may be other than the ledger has them: those of loads that it has not
# seen (`ops.letter_loads`), those that were replayed or discarded, those whose place was read anew since.
_TOUCHED = f"""
    create or replace temp table letters_touched as
    select {LETTER_ID} as letter_id
    from raw.dead_letters as letters inner join complete_loads as loads on letters.load_id = loads.load_id
    where loads.kind <> 'replay' and loads.load_id not in (select load_id from ops.letter_loads)
    union select letter_id from ops.letter_events
    union select split_part(content_hash, '{MARK}', 1) from raw.dead_letters
    where load_id in (select load_id from complete_loads where kind = 'replay')
    union select split_part(key, '{MARK}', 1) from ({{rows}})
    union select letters.letter_id
    from ops.dead_letters as letters inner join ({_PLACES}) as places using (source, location)
    where letters.stage in ('fetch', 'parse') and letters.state = '{OPEN}'
        and (places.started_at > letters.last_seen or places.page_read_at > letters.last_seen)
"""
_PARSED = f"""
    with touched as not materialized (
        select letters.* exclude (record, record_bytes), {LETTER_ID} as letter_id
        from raw.dead_letters as letters inner join complete_loads as loads on letters.load_id = loads.load_id
        where loads.kind <> 'replay' and {LETTER_ID} in (select letter_id from letters_touched)
    ),
    -- most are there once, and need no sorting out
    repeated as materialized (select letter_id from touched group by letter_id having count(*) > 1),
    occurrences as (
        select distinct on (dead_letter_id, load_id) * from touched
        where letter_id in (select letter_id from repeated)
    )
    select
        letter_id, source, stage, location, line, page, byte_offset, byte_length, content_hash, load_id, run_id,
        null::varchar as record_key, reason as reasons, message, attempts::bigint as attempts,
        occurred_at as first_seen, occurred_at as last_seen, run_id as last_run_id
    from touched where letter_id not in (select letter_id from repeated)
    union all
    select
        letter_id, arg_max(source, occurred_at), arg_max(stage, occurred_at), arg_max(location, occurred_at),
        arg_max(line, occurred_at), arg_max(page, occurred_at), arg_max(byte_offset, occurred_at),
        arg_max(byte_length, occurred_at), arg_max(content_hash, occurred_at), arg_max(load_id, occurred_at),
        arg_min(run_id, occurred_at), null, arg_max(reason, occurred_at), arg_max(message, occurred_at),
        sum(attempts)::bigint, min(occurred_at), max(occurred_at), arg_max(run_id, occurred_at)
    from occurrences group by letter_id
"""
_RULES = """
    select
        sha256(concat_ws(chr(0), 'rule', rejected.source, rejected.content_hash, rejected.line))[:32] as letter_id,
        rejected.source, 'rule' as stage, coalesce(rejected.location, loads.location) as location, rejected.line,
        null::bigint as page, null::bigint as byte_offset, null::bigint as byte_length, rejected.content_hash,
        rejected.load_id, loads.run_id, null::varchar as record_key, rejected.reasons, null::varchar as message,
        1::bigint as attempts, coalesce(rejected.loaded_at, loads.loaded_at) as first_seen,
        coalesce(rejected.loaded_at, loads.loaded_at) as last_seen, loads.run_id as last_run_id
    from rejected
    left join complete_loads as loads on rejected.load_id = loads.load_id
    where loads.kind is distinct from 'replay'
"""
# What became of each replay, as the rows and dead letters of its load tell.
_TRIES = """
    create or replace temp table tries as
    with landed as ({rows}),
    judged as (
        select landed.*, coalesce(outcomes.outcome, 'loaded') as outcome, rejected.reasons
        from landed
        left join (select distinct on (source, content_hash, line) * from outcomes) as outcomes
            on landed.source = outcomes.source and landed.key = outcomes.content_hash and landed.line = outcomes.line
        left join rejected
            on landed.source = rejected.source and landed.key = rejected.content_hash and landed.line = rejected.line
    )
    select distinct on (key, load_id)
        split_part(key, '{mark}', 1) as letter_id, tried.load_id, loads.run_id, loads.loaded_at as tried_at,
        tried.outcome, tried.reasons, tried.message, tried.record
    from (
        select key, load_id, outcome, reasons, null::varchar as message, record from judged
        {letters}
    ) as tried
    inner join complete_loads as loads on tried.load_id = loads.load_id and loads.kind = 'replay'
"""
_FAILED_TRIES = """
        union all
        select content_hash, load_id, 'dead-lettered', reason, message, record from raw.dead_letters
        where load_id in (select load_id from complete_loads where kind = 'replay')
"""
_STATES = f"""
    create or replace temp table settled as
    with last_tries as (
        select
            letter_id, count(*) as count_tries, max(tried_at) as tried_at, arg_max(outcome, tried_at) as outcome,
            arg_max(reasons, tried_at) as reasons, arg_max(message, tried_at) as message,
            arg_max(record, tried_at) as record
        from tries group by letter_id
    ),
    last_events as (
        select
            letter_id, count(*) filter (where event = '{JUDGE}') as count_judged,
            max(happened_at) filter (where event = '{DISCARD}') as discarded_at,
            arg_max(note, happened_at) filter (where event = '{DISCARD}') as note
        from ops.letter_events group by letter_id
    ),
    places as ({_PLACES}),
    newer_records as (
        select source, record_key, max(loaded_at) as accepted_at from outcomes
        where outcome <> 'rejected' and record_key is not null group by source, record_key
    ),
    letters as (
        select
            letters.* exclude (record_key, reasons, message, attempts),
            coalesce(letters.record_key, own.record_key) as record_key,
            case when tries.outcome in ('rejected', 'dead-lettered') then tries.reasons else letters.reasons
            end as reasons,
            case when tries.outcome in ('rejected', 'dead-lettered') then tries.message else letters.message
            end as message,
            letters.attempts + coalesce(tries.count_tries, 0) + coalesce(events.count_judged, 0) as attempts,
            case
                when events.discarded_at >= coalesce(tries.tried_at, timestamptz '-infinity') then '{DISCARDED}'
                when tries.outcome in ('accepted', 'duplicate') then '{RESOLVED}'
                when tries.outcome = 'loaded' then '{REPLAYED}'
                when letters.stage in ('fetch', 'parse', 'rule')
                    and (places.started_at > letters.last_seen or places.page_read_at > letters.last_seen)
                    then '{RESOLVED}'
                when letters.stage = 'rule' and not letters.is_found and own.outcome <> 'rejected' then '{RESOLVED}'
                when letters.stage = 'rule' and newer_records.accepted_at > letters.last_seen then '{RESOLVED}'
                when letters.stage = 'gate' and not letters.is_found then '{RESOLVED}'
                else '{OPEN}'
            end as state,
            case
                when events.discarded_at >= coalesce(tries.tried_at, timestamptz '-infinity') then events.note
                when tries.outcome in ('accepted', 'duplicate', 'loaded') then 'replayed: ' || tries.outcome
                when letters.stage in ('fetch', 'parse', 'rule')
                    and (places.started_at > letters.last_seen or places.page_read_at > letters.last_seen)
                    then 'its place was read anew'
                when letters.stage = 'rule' and not letters.is_found and own.outcome <> 'rejected'
                    then 'judged anew: ' || own.outcome
                when letters.stage = 'rule' and newer_records.accepted_at > letters.last_seen
                    then 'a newer record of the same key passed'
                when letters.stage = 'gate' and not letters.is_found then 'the check does not name it any more'
            end as resolution,
            tries.record as corrected
        from letters_before_states as letters
        left join last_tries as tries on letters.letter_id = tries.letter_id
        left join last_events as events on letters.letter_id = events.letter_id
        left join places on letters.source = places.source and letters.location = places.location
        left join (select distinct on (source, content_hash, line) *, 'rule' as stage from outcomes) as own
            on letters.stage = own.stage and letters.source = own.source
            and letters.content_hash = own.content_hash and letters.line = own.line
        left join newer_records
            on letters.source = newer_records.source and letters.record_key = newer_records.record_key
    )
    select letters.* exclude (is_found), before.record, before.record_bytes, before.letter_id is null as is_new
    from letters
    left join ops.dead_letters as before on letters.letter_id = before.letter_id
    where before.letter_id is null
        or (before.state, before.reasons, before.attempts, before.last_seen, before.resolution, before.corrected,
            before.record_key, before.message, before.last_run_id)
        is distinct from (letters.state, letters.reasons, letters.attempts, letters.last_seen, letters.resolution,
            letters.corrected, letters.record_key, letters.message, letters.last_run_id)
"""


def update_ledger(warehouse: Warehouse, keys: Mapping[str, Sequence[str]]) -> None:
    """Bring `ops.dead_letters` up to date with the data; `keys` are those of the marts, which gates name rows by.

    The caller keeps other runs away.
    """
    if not warehouse.exists():
        return
    with open_warehouse(warehouse) as connection:
        update(connection, keys)


def update(connection: duckdb.DuckDBPyConnection, keys: Mapping[str, Sequence[str]]) -> None:
    """The same on an open warehouse."""
    widen(connection)
    connection.execute(_TABLES)
    tables = read_tables(connection)
    if not tables.has("ops.dead_letters", "last_run_id"):  # of an earlier version
        connection.execute("alter table ops.dead_letters add column last_run_id varchar")
    sources = see_loads(connection, tables)
    see_rejected(connection, tables)
    replayed = _sources_with_replays(connection, sources)
    rows = rows_of_raw(
        tables,
        replayed,
        "source, _content_hash as key, _line as line, _load_id as load_id, record",
        "_load_id in (select load_id from complete_loads where kind = 'replay')",
    )
    _find(connection, tables, keys, rows)
    connection.execute(
        f"""
        create or replace temp table wanted as
        select source, content_hash, line, record_key from letters_before_states where stage = 'rule'
        union all select source, key, line, null from ({rows})
        """
    )
    see_outcomes(connection, tables, "wanted")
    letters = _FAILED_TRIES if tables.has("raw.dead_letters") else ""
    connection.execute(_TRIES.format(rows=rows, letters=letters, mark=MARK))
    connection.execute(_STATES)
    _add_records(connection, tables, sources)
    connection.execute("begin")
    connection.execute("delete from ops.dead_letters where letter_id in (select letter_id from settled)")
    connection.execute("insert into ops.dead_letters by name select * exclude (is_new) from settled")
    connection.execute("delete from ops.letter_tries where letter_id in (select letter_id from tries)")
    connection.execute("insert into ops.letter_tries by name select * exclude (record) from tries")
    connection.execute(
        "insert into ops.letter_loads select load_id from complete_loads "
        "where load_id not in (select load_id from ops.letter_loads)"
    )
    connection.execute("commit")


def keep_up_to_date(settings: Settings) -> None:
    """Bring the ledger up to date in a run, which goes on where that fails: the next command does it then."""
    try:
        update_ledger(settings.warehouse, keys_of(settings))
    except (PenstockError, duckdb.Error) as error:
        structlog.get_logger("penstock").error("dead letters", exc_info=error)


def try_to_update(settings: Settings) -> bool:
    """Bring the ledger up to date unless a run is going, which does so at its end; whether there is a warehouse."""
    if not settings.warehouse.exists():
        return False
    with suppress(LockedError), run_lock(settings.work_dir, command="deadletters"), hold_warehouse(settings.warehouse):
        update_ledger(settings.warehouse, keys_of(settings))
    return True


def keys_of(settings: Settings) -> dict[str, Sequence[str]]:
    """The key of every published mart."""
    return {name: output.key for name, output in settings.outputs.items()}


def _find(connection: duckdb.DuckDBPyConnection, tables: Tables, keys: Mapping[str, Sequence[str]], rows: str) -> None:
    """Make the table of letters that may have changed: those that the data shows, and that only the ledger remembers.

    `rows` is SQL for the rows of replays.
    """
    found = [f"select {_FOUND}, true as is_found from ({_RULES})"]
    if tables.has("raw.dead_letters"):
        connection.execute(_TOUCHED.format(rows=rows))
        found.append(f"select {_FOUND}, true as is_found from ({_PARSED})")
    found.append(f"select {_FOUND}, is_named as is_found from ({rows_of_gates(keys)})")
    # The attempts that the ledger counts are those of the data and of what was done since.
    connection.execute(
        f"""
        create or replace temp table letters_before_states as
        with found as materialized ({" union all ".join(found)})
        select found.* replace (coalesce(found.record_key, before.record_key) as record_key)
        from found left join ops.dead_letters as before on found.letter_id = before.letter_id
        union all
        select {_FOUND.replace("attempts", "1::bigint as attempts")}, false
        from ops.dead_letters where stage in ('rule', 'gate') and letter_id not in (select letter_id from found)
        """
    )


def _sources_with_replays(connection: duckdb.DuckDBPyConnection, sources: Sequence[str]) -> list[str]:
    found = connection.execute("select distinct source from complete_loads where kind = 'replay'").fetchall()
    return [source for (source,) in sorted(found) if source in sources]


def _add_records(connection: duckdb.DuckDBPyConnection, tables: Tables, sources: Sequence[str]) -> None:
    """Fetch the originals of letters that are new; the ledger holds those of the others."""
    wanted = {
        stage: connection.execute(f"select 1 from settled where is_new and stage in ({stage}) limit 1").fetchone()
        for stage in ("'fetch', 'parse'", "'rule'", "'gate'")
    }
    if wanted["'fetch', 'parse'"]:
        connection.execute(
            """
            create or replace temp table originals as
            select new.letter_id, arg_min(letters.record, letters.occurred_at) as record,
                arg_min(letters.record_bytes, letters.occurred_at) as record_bytes
            from settled as new
            inner join raw.dead_letters as letters
                on new.load_id = letters.load_id and new.line is not distinct from letters.line
                and new.byte_offset is not distinct from letters.byte_offset
                and new.content_hash = letters.content_hash
            where new.is_new and new.stage in ('fetch', 'parse')
            group by new.letter_id
            """
        )
        _keep(connection)
    of_rules = rows_of_raw(
        tables,
        sources,
        "source, _content_hash, _line, record",
        "(source, _content_hash, _line) in "
        "(select (source, content_hash, line) from settled where is_new and stage = 'rule')",
    )
    if wanted["'rule'"]:
        connection.execute(
            f"""
            create or replace temp table originals as
            select new.letter_id, any_value(rows.record) as record, null::blob as record_bytes
            from settled as new
            inner join ({of_rules}) as rows
                on new.source = rows.source and new.content_hash = rows._content_hash and new.line = rows._line
            where new.is_new and new.stage = 'rule' group by new.letter_id
            """
        )
        _keep(connection)
    of_gates = rows_of_raw(
        tables,
        sources,
        "source, _location, _line, _loaded_at, record",
        "(source, _location, _line) in "
        "(select (source, location, line) from settled where is_new and stage = 'gate' and line is not null)",
    )
    if wanted["'gate'"]:
        connection.execute(
            f"""
            create or replace temp table originals as
            select new.letter_id, coalesce(arg_max(rows.record, rows._loaded_at), any_value(new.record_key)) as record,
                null::blob as record_bytes
            from settled as new
            left join ({of_gates}) as rows
                on new.source = rows.source and new.location = rows._location and new.line = rows._line
            where new.is_new and new.stage = 'gate' group by new.letter_id
            """
        )
        _keep(connection)


def _keep(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "update settled set record = originals.record, record_bytes = originals.record_bytes "
        "from originals where settled.letter_id = originals.letter_id"
    )
