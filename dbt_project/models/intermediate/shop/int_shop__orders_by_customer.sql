{#-
    Incremental: of the customers that a changed order names or named. Ids are as the orders have them, known or not: a
    customer who comes later is found by the mart, and no order has to be touched.
-#}
{{ config(
    unique_key='customer_id',
    indexes=lookup_indexes(['customer_id'])
) }}

with newest as (
    select max(orders.changed_at) as changed_at from {{ ref('int_shop__orders') }} as orders
),

{% if is_incremental() -%}
touched as (
    select orders.customer_id
    from {{ ref('int_shop__orders') }} as orders
    where {{ is_changed('orders') }} and orders.customer_id is not null
    union
    {{ outdated_groups('customer_id', ref('int_shop__orders')) }}
),

{% else -%}
touched as (
    select distinct orders.customer_id
    from {{ ref('int_shop__orders') }} as orders
    where orders.customer_id is not null
),

{% endif -%}
accepted as (
    select orders.*
    from {{ ref('int_shop__orders') }} as orders
    where
        orders.outcome = 'accepted'
        {%- if is_incremental() %}
        and orders.customer_id in ({{ the_few('touched', 'customer_id') }})
        {%- endif %}
),

final as (
    select
        -- ids
        touched.customer_id,
        -- numerics
        count(accepted.order_id) as count_orders,
        cast(coalesce(sum(accepted.order_total_usd), 0) as decimal(18, 2)) as revenue_usd,
        -- dates
        min(accepted.ordered_on) as first_ordered_on,
        max(accepted.ordered_on) as last_ordered_on,
        -- timestamps
        max(newest.changed_at) as changed_at
    from touched
    cross join newest
    left join accepted on touched.customer_id = accepted.customer_id
    group by touched.customer_id
)

select * from final
