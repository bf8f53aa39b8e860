{%- set limits = {
    'recency': var('shop_recency_days'), 'frequency': var('shop_frequency_orders'), 'monetary': var('shop_monetary_usd'),
} -%}

with customers as (
    select * from {{ ref('int_shop__customers') }}
),

orders_by_customer as (
    select * from {{ ref('int_shop__orders_by_customer') }}
),

known as (
    select
        customers.customer_id,
        customers.customer_name
    from customers
    where customers.outcome = 'accepted'
),

of_customers as (
    select
        known.customer_id,
        known.customer_name,
        coalesce(orders_by_customer.count_orders, 0) as count_orders,
        coalesce(orders_by_customer.revenue_usd, 0) as revenue_usd,
        orders_by_customer.first_ordered_on,
        orders_by_customer.last_ordered_on
    from known
    left join orders_by_customer on known.customer_id = orders_by_customer.customer_id
),

-- orders whose customer nobody told us about: their revenue stays in the sum until the customer arrives
of_the_unknown as (
    select
        '{{ unknown_member() }}' as customer_id,
        '{{ unknown_member() }}' as customer_name,
        cast(sum(orders_by_customer.count_orders) as bigint) as count_orders,
        cast(sum(orders_by_customer.revenue_usd) as decimal(18, 2)) as revenue_usd,
        min(orders_by_customer.first_ordered_on) as first_ordered_on,
        max(orders_by_customer.last_ordered_on) as last_ordered_on
    from orders_by_customer
    left join known on orders_by_customer.customer_id = known.customer_id
    where known.customer_id is null
    having sum(orders_by_customer.count_orders) > 0
),

united as (
    select of_customers.* from of_customers
    union all
    select of_the_unknown.* from of_the_unknown
),

timed as (
    select
        united.*,
        cast({{ days_between('united.last_ordered_on', as_of_date()) }} as integer) as recency_days
    from united
),

scored as (
    select
        timed.*,
        case
            when timed.count_orders = 0 or timed.customer_id = '{{ unknown_member() }}' then null
            {%- for days in limits.recency %}
            when timed.recency_days <= {{ days }} then {{ 5 - loop.index0 }}
            {%- endfor %}
            else 1
        end as recency_score,
        case
            when timed.count_orders = 0 or timed.customer_id = '{{ unknown_member() }}' then null
            {%- for orders in limits.frequency %}
            when timed.count_orders >= {{ orders }} then {{ 5 - loop.index0 }}
            {%- endfor %}
            else 1
        end as frequency_score,
        case
            when timed.count_orders = 0 or timed.customer_id = '{{ unknown_member() }}' then null
            {%- for amount in limits.monetary %}
            when timed.revenue_usd >= {{ amount }} then {{ 5 - loop.index0 }}
            {%- endfor %}
            else 1
        end as monetary_score
    from timed
),

final as (
    select
        -- ids
        scored.customer_id,
        -- text
        scored.customer_name,
        case
            when scored.customer_id = '{{ unknown_member() }}' then 'unknown'
            when scored.count_orders = 0 then 'prospect'
            when scored.recency_score >= 4 and scored.frequency_score >= 4 and scored.monetary_score >= 4
                then 'champion'
            when scored.recency_score >= 3 and scored.frequency_score >= 3 then 'loyal'
            when scored.recency_score >= 4 and scored.frequency_score = 1 then 'new'
            when scored.recency_score <= 2 and scored.frequency_score >= 3 then 'at_risk'
            when scored.recency_score <= 2 then 'lapsed'
            else 'occasional'
        end as segment,
        -- numerics
        cast(scored.count_orders as bigint) as count_orders,
        cast(scored.revenue_usd as decimal(18, 2)) as revenue_usd,
        {{ average_usd('scored.revenue_usd', 'scored.count_orders') }} as order_value_average_usd,
        scored.recency_days,
        scored.recency_score,
        scored.frequency_score,
        scored.monetary_score,
        -- booleans
        scored.customer_id <> '{{ unknown_member() }}' as is_known,
        -- dates
        scored.first_ordered_on,
        scored.last_ordered_on
    from scored
)

select * from final
