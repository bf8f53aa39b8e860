with items_by_day_and_product as (
    select * from {{ ref('int_shop__items_by_day_and_product') }}
),

product_catalogue as (
    select * from {{ ref('product_catalogue') }}
),

sold as (
    select
        items_by_day_and_product.sku,
        cast(sum(items_by_day_and_product.count_items) as bigint) as count_items
    from items_by_day_and_product
    where items_by_day_and_product.count_items > 0
    group by items_by_day_and_product.sku
),

of_products as (
    select
        product_catalogue.sku,
        product_catalogue.product_name,
        product_catalogue.category,
        product_catalogue.price_usd,
        coalesce(sold.count_items, 0) as count_items
    from product_catalogue
    left join sold on product_catalogue.sku = sold.sku
),

of_the_unknown as (
    select sum(sold.count_items) as count_items
    from sold
    left join product_catalogue on sold.sku = product_catalogue.sku
    where product_catalogue.sku is null
    having sum(sold.count_items) > 0
),

united as (
    select of_products.* from of_products
    union all
    select
        '{{ unknown_member() }}' as sku,
        '{{ unknown_member() }}' as product_name,
        '{{ unknown_member() }}' as category,
        cast(0 as decimal(14, 2)) as price_usd,
        of_the_unknown.count_items
    from of_the_unknown
),

final as (
    select
        -- ids
        united.sku,
        -- text
        united.product_name,
        united.category,
        -- numerics
        cast(united.count_items as bigint) as count_items,
        cast(united.count_items * united.price_usd as decimal(18, 2)) as items_usd
    from united
)

select * from final
