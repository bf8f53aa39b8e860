{#- A view: it repeats what four tables hold already, and only the books of the run read it. -#}
{{ config(materialized='view') }}

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
        orders.source,
        orders.location,
        orders.content_hash,
        orders.outcome,
        cast(null as {{ text_type() }}) as mart,
        orders.line,
        orders.loaded_at
    from orders
    union all
    select
        order_items.item_id as record_key,
        order_items.load_id,
        order_items.run_id,
        order_items.source,
        order_items.location,
        order_items.content_hash,
        order_items.outcome,
        cast(null as {{ text_type() }}) as mart,
        order_items.line,
        order_items.loaded_at
    from order_items
    union all
    select
        customers.customer_id as record_key,
        customers.load_id,
        customers.run_id,
        customers.source,
        customers.location,
        customers.content_hash,
        customers.outcome,
        'customer_metrics' as mart,
        customers.line,
        customers.loaded_at
    from customers
    union all
    select
        products.sku as record_key,
        products.load_id,
        products.run_id,
        products.source,
        products.location,
        products.content_hash,
        products.outcome,
        'product_catalogue' as mart,
        products.line,
        products.loaded_at
    from products
),

final as (
    select
        -- ids
        united.load_id,
        united.run_id,
        united.record_key,
        -- text
        united.source,
        united.location,
        united.content_hash,
        united.outcome,
        united.mart,
        -- numerics
        united.line,
        -- timestamps
        united.loaded_at
    from united
)

select * from final
