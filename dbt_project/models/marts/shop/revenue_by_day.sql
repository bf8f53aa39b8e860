with orders_by_day as (
    select * from {{ ref('int_shop__orders_by_day') }}
),

items_by_day_and_product as (
    select * from {{ ref('int_shop__items_by_day_and_product') }}
),

product_catalogue as (
    select * from {{ ref('product_catalogue') }}
),

items_by_day as (
    select
        items_by_day_and_product.ordered_on,
        sum(items_by_day_and_product.count_items) as count_items,
        sum(
            case when product_catalogue.sku is null then items_by_day_and_product.count_items else 0 end
        ) as count_items_of_unknown_products,
        sum(items_by_day_and_product.count_items * coalesce(product_catalogue.price_usd, 0)) as items_usd
    from items_by_day_and_product
    left join product_catalogue on items_by_day_and_product.sku = product_catalogue.sku
    group by items_by_day_and_product.ordered_on
),

final as (
    select
        -- numerics
        orders_by_day.count_orders,
        orders_by_day.count_orders_without_items,
        cast(coalesce(items_by_day.count_items, 0) as bigint) as count_items,
        cast(coalesce(items_by_day.count_items_of_unknown_products, 0) as bigint) as count_items_of_unknown_products,
        orders_by_day.subtotal_usd,
        orders_by_day.tax_usd,
        orders_by_day.revenue_usd,
        cast(coalesce(items_by_day.items_usd, 0) as decimal(18, 2)) as items_usd,
        cast(orders_by_day.subtotal_usd - coalesce(items_by_day.items_usd, 0) as decimal(18, 2)) as subtotal_gap_usd,
        -- dates
        orders_by_day.ordered_on
    from orders_by_day
    left join items_by_day on orders_by_day.ordered_on = items_by_day.ordered_on
    where orders_by_day.count_orders > 0
)

select * from final
