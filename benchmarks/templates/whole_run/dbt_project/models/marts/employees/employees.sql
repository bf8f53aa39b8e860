with judged as (
    select * from {{ ref('int_employees__judged') }}
),

final as (
    select
        -- ids
        judged.id,
        -- text
        judged.name,
        judged.email,
        judged.department,
        judged.metadata,
        -- numerics
        judged.age,
        judged.salary,
        -- booleans
        judged.is_active,
        -- dates
        judged.join_date,
        -- timestamps
        judged.changed_at
    from judged
    where judged.outcome = 'accepted'
)

select * from final
