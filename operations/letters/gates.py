"""Dead letters of gates: the rows that failed checks named."""

import json
from collections.abc import Mapping, Sequence

from foundation.warehouse import quote_literal

# Rows that a failed check of a gate named, by their place in a source or by the key of their mart: all that it has in
# `ops.gate_rows`, or of a check that cannot say which rows failed the few that it shows.
_GATES = """
    with judged as (
        select *, max(checked_at) over (partition by gate, suite, expectation, column_name) as newest_at
        from ops.gate_results
    ),
    shown as (
        select *, unnest(from_json(samples, '["json"]'))::varchar as sample from judged
        where not is_success and count_named is null and json_valid(samples) and json_array_length(samples) > 0
    ),
    by_samples as (
        select
            gate, suite, expectation, column_name, sample, arg_min(run_id, checked_at) as run_id,
            arg_max(run_id, checked_at) as last_run_id, count(distinct run_id) as attempts,
            min(checked_at) as first_seen, max(checked_at) as last_seen,
            arg_max(observed_value, checked_at) as observed_value, arg_max(allowed, checked_at) as allowed,
            arg_max(json_array_length(samples), checked_at) as count_told,
            arg_max(count_unexpected, checked_at) as count_unexpected, 'the check can name no more' as why,
            bool_or(checked_at = newest_at) as is_named
        from shown group by gate, suite, expectation, column_name, sample
    ),
    newest as (
        select distinct on (gate, suite, expectation, column_name) * from judged
        where checked_at = newest_at and count_named is not null
        order by count_named desc
    ),
    by_rows as (
        select
            named.gate, named.suite, named.expectation, named.column_name, named.sample,
            named.first_run_id as run_id, named.run_id as last_run_id, named.attempts, named.first_seen,
            named.checked_at as last_seen, newest.observed_value, newest.allowed, newest.count_named as count_told,
            newest.count_unexpected, 'the others are left out' as why, true as is_named
        from ops.gate_rows as named inner join newest
            on named.gate = newest.gate and named.suite = newest.suite and named.expectation = newest.expectation
            and named.column_name is not distinct from newest.column_name
    ),
    placed as (
        select
            *,
            coalesce(sample ->> '$.location', sample ->> '$._location') as location,
            try_cast(coalesce(sample ->> '$.line', sample ->> '$._line') as bigint) as line,
            coalesce(sample ->> '$.source', suite) as source
        from (select * from by_samples union all by name select * from by_rows)
    )
    select
        sha256(concat_ws(chr(0), 'gate', gate, suite, expectation, column_name, sample))[:32] as letter_id,
        source, 'gate' as stage, location, line, null::bigint as page, null::bigint as byte_offset,
        null::bigint as byte_length, null::varchar as content_hash, null::varchar as load_id, run_id,
        sample as record_key, concat_ws(' ', 'gate', gate || ':', expectation, column_name) as reasons,
        concat_ws(' ', 'suite', suite || ':', 'is', observed_value || ', allowed is', allowed)
            || case
                when count_told < count_unexpected
                    then '; ' || count_told || ' of ' || count_unexpected || ' rows are named, ' || why
                else ''
            end as message,
        attempts, first_seen, last_seen, last_run_id, is_named
    from placed where {is_row}
"""


def rows_of_gates(keys: Mapping[str, Sequence[str]]) -> str:
    """SQL for the letters of gates; `keys` are those of the marts, which their rows are known by."""
    return _GATES.format(is_row=_is_row(keys))


def _is_row(keys: Mapping[str, Sequence[str]]) -> str:
    conditions = ["(location is not null and line is not null)"]
    for mart, key in keys.items():
        names = " and ".join(f"json_exists(sample, {quote_literal(_path(name))})" for name in key)
        conditions.append(f"(gate = 'marts' and suite = {quote_literal(mart)} and {names})")
    return " or ".join(conditions)


def _path(name: str) -> str:
    return f"$.{json.dumps(name)}"
