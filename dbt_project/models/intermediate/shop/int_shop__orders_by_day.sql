{#-
    Incremental: of the days that a changed order, or an item of one, is or was on. A day that lost its last order stays
    with a count of 0, and the marts leave it out.
-#}
{{ config(
    unique_key='ordered_on'
) }}

{#- A long table is named where it is read: as a CTE that several read it would be copied. -#}
with newest as (
    select
        (select max(orders.changed_at) from {{ ref('int_shop__orders') }} as orders) as orders_changed_at,
        (select max(order_items.changed_at) from {{ ref('int_shop__order_items') }} as order_items) as items_changed_at,
        {{ build_time(this) }} as changed_at
),

{% if is_incremental() -%}
changed_items as (
    select distinct order_items.order_id
    from {{ ref('int_shop__order_items') }} as order_items
    where {{ is_changed('order_items', 'items_changed_at') }}
),

touched as (
    select orders.ordered_on
    from {{ ref('int_shop__orders') }} as orders
    where {{ is_changed('orders', 'orders_changed_at') }} and orders.ordered_on is not null
    union
    select orders.ordered_on
    from {{ ref('int_shop__orders') }} as orders
    where orders.order_id in ({{ the_few('changed_items', 'order_id') }}) and orders.ordered_on is not null
    union
    {{ outdated_groups('ordered_on', ref('int_shop__orders'), 'orders_changed_at') }}
),

accepted as (
    select orders.*
    from {{ ref('int_shop__orders') }} as orders
    where orders.outcome = 'accepted' and orders.ordered_on in ({{ the_few('touched', 'ordered_on') }})
),

{% else -%}
touched as (
    select distinct orders.ordered_on
    from {{ ref('int_shop__orders') }} as orders
    where orders.ordered_on is not null
),

accepted as (
    select orders.*
    from {{ ref('int_shop__orders') }} as orders
    where orders.outcome = 'accepted'
),

{% endif -%}
with_items as (
    select distinct order_items.order_id
    from {{ ref('int_shop__order_items') }} as order_items
    where
        order_items.outcome = 'accepted'
        {%- if is_incremental() %}
        and order_items.order_id in ({{ the_few('accepted', 'order_id') }})
        {%- endif %}
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
        max(newest.orders_changed_at) as orders_changed_at,
        max(newest.items_changed_at) as items_changed_at,
        max(newest.changed_at) as changed_at
    from touched
    cross join newest
    left join accepted on touched.ordered_on = accepted.ordered_on
    left join with_items on accepted.order_id = with_items.order_id
    group by touched.ordered_on
)

select * from final
