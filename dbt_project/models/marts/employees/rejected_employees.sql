with deduplicated as (
    select * from {{ ref('int_employees__deduplicated') }}
),

-- the values as they came, which nobody had to carry along for the records that passed
unioned as (
    select * from {{ ref('int_employees__unioned') }}
),

final as (
    select
        -- ids
        unioned.id,
        unioned.load_id,
        unioned.run_id,
        -- text
        unioned.name,
        unioned.email,
        unioned.age,
        unioned.department,
        unioned.salary,
        unioned.join_date,
        unioned.is_active,
        unioned.metadata,
        unioned.updated_at,
        {{ rules_array('deduplicated.failed_rules') }} as failed_rules,
        unioned.source,
        unioned.location,
        unioned.content_hash,
        -- numerics
        unioned.line,
        -- timestamps
        unioned.loaded_at
    from deduplicated
    inner join unioned
        on
            deduplicated.source = unioned.source
            and deduplicated.content_hash = unioned.content_hash
            and deduplicated.line = unioned.line
    where deduplicated.outcome = 'rejected'
)

select * from final
