with people as (
    select * from {{ ref('people') }}
),

final as (
    select
        -- text
        coalesce(people.team, '') as team,
        -- numerics
        cast(count(*) as bigint) as count_people,
        cast(coalesce(sum(people.amount), 0) as bigint) as amount_total
    from people
    group by coalesce(people.team, '')
)

select * from final
