with deduplicated as (
    select * from {{ ref('int_catalogue__deduplicated') }}
),

normalised as (
    select * from {{ ref('int_catalogue__normalised') }}
),

final as (
    select
        -- ids
        deduplicated.slug,
        deduplicated.load_id,
        deduplicated.run_id,
        -- text
        normalised.name,
        {{ rules_array('deduplicated.failed_rules') }} as failed_rules,
        deduplicated.source,
        deduplicated.location,
        deduplicated.content_hash,
        -- numerics
        deduplicated.line,
        -- timestamps
        deduplicated.loaded_at
    from deduplicated
    left join normalised on deduplicated.record_id = normalised.record_id
    where deduplicated.outcome = 'rejected'
)

select * from final
