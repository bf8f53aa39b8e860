with orders as (
    select * from {{ ref('int_shop__orders') }}
),

order_items as (
    select * from {{ ref('int_shop__order_items') }}
),

customers as (
    select * from {{ ref('int_shop__customers') }}
),

products as (
    select * from {{ ref('int_shop__products') }}
),

united as (
    select
        orders.order_id as record_key,
        orders.load_id,
        orders.run_id,
        orders.record,
        orders.failed_rules,
        orders.source,
        orders.location,
        orders.content_hash,
        orders.line,
        orders.loaded_at
    from orders
    where orders.outcome = 'rejected'
    union all
    select
        order_items.item_id as record_key,
        order_items.load_id,
        order_items.run_id,
        order_items.record,
        order_items.failed_rules,
        order_items.source,
        order_items.location,
        order_items.content_hash,
        order_items.line,
        order_items.loaded_at
    from order_items
    where order_items.outcome = 'rejected'
    union all
    select
        customers.customer_id as record_key,
        customers.load_id,
        customers.run_id,
        customers.record,
        customers.failed_rules,
        customers.source,
        customers.location,
        customers.content_hash,
        customers.line,
        customers.loaded_at
    from customers
    where customers.outcome = 'rejected'
    union all
    select
        products.sku as record_key,
        products.load_id,
        products.run_id,
        products.record,
        products.failed_rules,
        products.source,
        products.location,
        products.content_hash,
        products.line,
        products.loaded_at
    from products
    where products.outcome = 'rejected'
),

final as (
    select
        -- ids
        united.record_key,
        united.load_id,
        united.run_id,
        -- text
        united.record,
        {{ rules_array('united.failed_rules') }} as failed_rules,
        united.source,
        united.location,
        united.content_hash,
        -- numerics
        united.line,
        -- timestamps
        united.loaded_at
    from united
)

select * from final
