{#-
    Incremental: of the days that a changed order, or an item of one, is or was on. A day that lost its last order stays
    with a count of 0, and the marts leave it out.
-#}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='ordered_on',
    on_schema_change='fail'
) }}

with orders as (
    select * from {{ ref('int_shop__orders') }}
),

order_items as (
    select * from {{ ref('int_shop__order_items') }}
),

newest as (
    select greatest(
        (select max(orders.changed_at) from orders), (select max(order_items.changed_at) from order_items)
    ) as changed_at
),

{% if is_incremental() -%}
changed_items as (
    select distinct order_items.order_id
    from order_items
    where {{ is_changed('order_items') }}
),

touched as (
    select orders.ordered_on
    from orders
    where {{ is_changed('orders') }} and orders.ordered_on is not null
    union
    select orders.ordered_on
    from orders
    inner join changed_items on orders.order_id = changed_items.order_id
    where orders.ordered_on is not null
    union
    {{ outdated_groups('ordered_on', 'orders') }}
),

{% else -%}
touched as (
    select distinct orders.ordered_on
    from orders
    where orders.ordered_on is not null
),

{% endif -%}
accepted as (
    select orders.*
    from orders
    {% if is_incremental() -%}
    inner join touched on orders.ordered_on = touched.ordered_on
    {% endif -%}
    where orders.outcome = 'accepted'
),

with_items as (
    select distinct accepted.order_id
    from accepted
    inner join order_items on accepted.order_id = order_items.order_id
    where order_items.outcome = 'accepted'
),

final as (
    select
        -- numerics
        count(accepted.order_id) as count_orders,
        count(accepted.order_id) - count(with_items.order_id) as count_orders_without_items,
        cast(coalesce(sum(accepted.subtotal_usd), 0) as decimal(18, 2)) as subtotal_usd,
        cast(coalesce(sum(accepted.tax_usd), 0) as decimal(18, 2)) as tax_usd,
        cast(coalesce(sum(accepted.order_total_usd), 0) as decimal(18, 2)) as revenue_usd,
        -- dates
        touched.ordered_on,
        -- timestamps
        max(newest.changed_at) as changed_at
    from touched
    cross join newest
    left join accepted on touched.ordered_on = accepted.ordered_on
    left join with_items on accepted.order_id = with_items.order_id
    group by touched.ordered_on
)

select * from final
