with revenue_by_product as (
    select * from {{ ref('revenue_by_product') }}
),

final as (
    select
        -- text
        revenue_by_product.category,
        -- numerics
        count(*) as count_products,
        cast(sum(revenue_by_product.count_items) as bigint) as count_items,
        cast(sum(revenue_by_product.items_usd) as decimal(18, 2)) as items_usd
    from revenue_by_product
    group by revenue_by_product.category
)

select * from final
