with judged as (
    select * from {{ ref('int_people__judged') }}
),

final as (
    select
        -- ids
        judged.person,
        -- text
        judged.name,
        judged.team,
        judged.changed_at,
        -- numerics
        cast(judged.amount_number as bigint) as amount
    from judged
    where judged.outcome = 'accepted'
)

select * from final
