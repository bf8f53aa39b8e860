-- An item of an unknown product is counted under (unknown), so both marts add up to the same items and cents.
with revenue_by_product as (
    select
        coalesce(sum(revenue_by_product.count_items), 0) as count_items,
        coalesce(sum(revenue_by_product.items_usd), 0) as items_usd
    from {{ ref('revenue_by_product') }} as revenue_by_product
),

revenue_by_day as (
    select
        coalesce(sum(revenue_by_day.count_items), 0) as count_items,
        coalesce(sum(revenue_by_day.items_usd), 0) as items_usd
    from {{ ref('revenue_by_day') }} as revenue_by_day
)

select
    revenue_by_product.count_items as of_products,
    revenue_by_day.count_items as of_days
from revenue_by_product
cross join revenue_by_day
where
    revenue_by_product.count_items <> revenue_by_day.count_items
    or revenue_by_product.items_usd <> revenue_by_day.items_usd
