{#- From raw alone, so that a rebuild of an earlier run gives the rows that it had. -#}
with fetches as (
    select * from {{ ref('int_catalogue__fetches') }}
),

final as (
    select
        -- ids
        fetches.source,
        -- numerics
        count(*) as count_asked,
        count(case when not fetches.is_failed then 1 end) as count_fetched,
        count(case when fetches.is_unchanged then 1 end) as count_unchanged,
        count(case when fetches.is_failed then 1 end) as count_failed,
        count(case when fetches.failed_stage = 'fetch' then 1 end) as count_failed_fetching,
        count(case when fetches.failed_stage = 'parse' then 1 end) as count_failed_parsing,
        cast(coalesce(sum(fetches.count_attempts), 0) as bigint) as count_failed_attempts,
        cast(100.0 * count(case when not fetches.is_failed then 1 end) / count(*) as decimal(5, 2)) as success_rate_pct,
        -- dates
        fetches.fetched_on,
        -- timestamps
        min(fetches.loaded_at) as first_fetched_at,
        max(fetches.loaded_at) as last_fetched_at
    from fetches
    group by fetches.source, fetches.fetched_on
)

select * from final
