with source as (
    select distinct
        letters.dead_letter_id,
        letters.load_id,
        letters.source,
        letters.line,
        letters.byte_offset,
        letters.stage,
        letters.reason,
        letters.attempts
    from {{ raw_table(source('raw', 'dead_letters')) }} as letters
),

renamed as (
    select
        -- ids
        source.dead_letter_id,
        source.load_id,
        -- text
        source.source,
        source.stage,
        source.reason,
        -- numerics
        source.attempts as count_attempts,
        -- booleans
        source.line is null and source.byte_offset is null as is_unanswered
    from source
)

select * from renamed
