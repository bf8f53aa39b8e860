with products as (
    select * from {{ ref('int_shop__products') }}
),

final as (
    select
        -- ids
        products.sku,
        -- text
        products.product_name,
        products.category,
        products.description,
        -- numerics
        products.price_usd
    from products
    where products.outcome = 'accepted'
)

select * from final
