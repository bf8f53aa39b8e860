{#-
    Incremental: of the days that int_shop__orders_by_day computed since. It counts and does not price, so that a product
    that is new, or costs something else, changes nothing here. An item whose order is not there waits for it.
-#}
{{ config(
    unique_key='ordered_on'
) }}

with days as (
    select * from {{ ref('int_shop__orders_by_day') }}
),

orders as (
    select * from {{ ref('int_shop__orders') }}
),

order_items as (
    select * from {{ ref('int_shop__order_items') }}
),

touched as (
    select
        days.ordered_on,
        days.changed_at
    from days
    {%- if is_incremental() %}
    where {{ is_changed('days') }}
    {%- endif %}
),

accepted as (
    select
        orders.order_id,
        orders.ordered_on
    from orders
    where
        orders.outcome = 'accepted'
        {%- if is_incremental() %}
        and orders.ordered_on in ({{ the_few('touched', 'ordered_on') }})
        {%- endif %}
),

sold as (
    select
        accepted.ordered_on,
        order_items.sku,
        count(*) as count_items
    from order_items
    inner join accepted on order_items.order_id = accepted.order_id
    where
        order_items.outcome = 'accepted'
        {%- if is_incremental() %}
        and order_items.order_id in ({{ the_few('accepted', 'order_id') }})
        {%- endif %}
    group by accepted.ordered_on, order_items.sku
),

final as (
    select
        -- ids
        sold.sku,
        -- numerics
        coalesce(sold.count_items, 0) as count_items,
        -- dates
        touched.ordered_on,
        -- timestamps
        touched.changed_at
    from touched
    -- a day without an item is one row without a product, which takes the place of what the day had
    left join sold on touched.ordered_on = sold.ordered_on
)

select * from final
