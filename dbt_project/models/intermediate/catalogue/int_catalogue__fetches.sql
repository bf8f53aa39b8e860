with loads as (
    select * from {{ ref('stg_ingestion__loads') }}
),

dead_letters as (
    select * from {{ ref('stg_ingestion__dead_letters') }}
),

unanswered as (
    select
        dead_letters.load_id,
        min(dead_letters.stage) as stage,
        sum(dead_letters.count_attempts) as count_attempts
    from dead_letters
    where dead_letters.is_unanswered
    group by dead_letters.load_id
),

final as (
    select
        -- ids
        loads.load_id,
        loads.run_id,
        -- text
        loads.source,
        loads.location,
        unanswered.stage as failed_stage,
        -- numerics
        unanswered.count_attempts,
        -- booleans
        unanswered.load_id is not null as is_failed,
        loads.count_read > 0 and loads.count_skipped = loads.count_read as is_unchanged,
        -- dates
        cast(loads.loaded_at at time zone 'UTC' as date) as fetched_on,
        -- timestamps
        loads.loaded_at
    from loads
    left join unanswered on loads.load_id = unanswered.load_id
    where loads.kind = 'api' and loads.is_complete
)

select * from final
