-- No build, however small, leaves an order out of its day or keeps it in the one that it left.
with accepted as (
    select
        count(*) as count_orders,
        coalesce(sum(orders.order_total_usd), 0) as revenue_usd
    from {{ ref('int_shop__orders') }} as orders
    where orders.outcome = 'accepted'
),

days as (
    select
        coalesce(sum(revenue_by_day.count_orders), 0) as count_orders,
        coalesce(sum(revenue_by_day.revenue_usd), 0) as revenue_usd
    from {{ ref('revenue_by_day') }} as revenue_by_day
)

select
    accepted.count_orders as count_accepted,
    days.count_orders,
    accepted.revenue_usd as accepted_usd,
    days.revenue_usd
from accepted
cross join days
where accepted.count_orders <> days.count_orders or accepted.revenue_usd <> days.revenue_usd
