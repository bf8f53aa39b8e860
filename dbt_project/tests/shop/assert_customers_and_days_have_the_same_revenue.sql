-- An order without a known customer stays in the sum, so both marts add up to the same cents and orders.
with customer_metrics as (
    select
        coalesce(sum(customer_metrics.revenue_usd), 0) as revenue_usd,
        coalesce(sum(customer_metrics.count_orders), 0) as count_orders
    from {{ ref('customer_metrics') }} as customer_metrics
),

revenue_by_day as (
    select
        coalesce(sum(revenue_by_day.revenue_usd), 0) as revenue_usd,
        coalesce(sum(revenue_by_day.count_orders), 0) as count_orders
    from {{ ref('revenue_by_day') }} as revenue_by_day
)

select
    customer_metrics.revenue_usd as of_customers_usd,
    revenue_by_day.revenue_usd as of_days_usd
from customer_metrics
cross join revenue_by_day
where
    customer_metrics.revenue_usd <> revenue_by_day.revenue_usd
    or customer_metrics.count_orders <> revenue_by_day.count_orders
