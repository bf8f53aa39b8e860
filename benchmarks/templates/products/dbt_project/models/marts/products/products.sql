with judged as (
    select * from {{ ref('int_products__judged') }}
),

final as (
    select
        -- ids
        judged.id,
        -- text
        judged.name,
        judged.category,
        -- numerics
        judged.price_usd,
        -- dates
        judged.changed_on
    from judged
    where judged.outcome = 'accepted'
)

select * from final
