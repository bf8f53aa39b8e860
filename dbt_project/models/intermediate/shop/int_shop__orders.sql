{#-
    Incremental: a build reads the loads that it has not seen and touches the orders that these name, with every version
    of them that is here already. All versions stay, so a later model finds the day and the customer that an order left.
-#}
{{ config(
    unique_key='order_key',
    indexes=lookup_indexes(['order_key', 'ordered_on', 'customer_id'])
) }}

with {{ loads_seen('shop__orders', var('shop_rules_version')) }}

orders as (
    select * from {{ ref('stg_shop__orders') }}
),

trimmed as (
    select
        {{ trimmed('orders.order_id') }} as order_id,
        {{ trimmed('orders.customer_id') }} as customer_id,
        {{ trimmed('orders.store_id') }} as store_id,
        {{ trimmed('orders.ordered_at') }} as ordered_at_text,
        {{ trimmed('orders.subtotal_cents') }} as subtotal_text,
        {{ trimmed('orders.tax_cents') }} as tax_text,
        {{ trimmed('orders.order_total_cents') }} as order_total_text,
        orders.load_id,
        orders.run_id,
        orders.source,
        orders.location,
        orders.content_hash,
        orders.line,
        orders.loaded_at
    from orders
    where {{ is_unseen('orders') }}
    {{ computed_once() }}
),

valued as (
    select
        trimmed.*,
        coalesce(trimmed.order_id, trimmed.content_hash || ':' || trimmed.line) as order_key,
        {{ cents_as_usd('trimmed.subtotal_text') }} as subtotal_usd,
        {{ cents_as_usd('trimmed.tax_text') }} as tax_usd,
        {{ cents_as_usd('trimmed.order_total_text') }} as order_total_usd,
        {{ utc_timestamp('trimmed.ordered_at_text') }} as ordered_at
    from trimmed
    {{ computed_once() }}
),

-- at most one rule per field: the first that tells what to mend
ruled as (
    select
        valued.*,
        -- the day as the source wrote it, of a moment that could be read
        case
            when valued.ordered_at is not null then {{ cast_or_null('left(valued.ordered_at_text, 10)', 'date') }}
        end as ordered_on,
        case when valued.order_id is null then 'order_id_missing' end as id_broken,
        case when valued.customer_id is null then 'customer_missing' end as customer_broken,
        case
            when valued.ordered_at_text is null then 'ordered_at_missing'
            when valued.ordered_at is null then 'ordered_at_unreadable'
            -- a day for the clocks of the world; by the load, so that time makes no order valid
            when valued.ordered_at > valued.loaded_at + interval '1 day' then 'ordered_at_in_future'
        end as ordered_at_broken,
        {%- for amount in ['subtotal', 'tax', 'order_total'] %}
        case
            when valued.{{ amount }}_text is null then '{{ amount }}_missing'
            when valued.{{ amount }}_usd is null then '{{ amount }}_unreadable'
            when valued.{{ amount }}_usd < 0 then '{{ amount }}_negative'
        end as {{ amount }}_broken,
        {%- endfor %}
        case
            when valued.order_total_usd <> valued.subtotal_usd + valued.tax_usd then 'order_total_not_sum'
        end as sum_broken
    from valued
),

{% set rules = [
    'ruled.id_broken', 'ruled.customer_broken', 'ruled.ordered_at_broken', 'ruled.subtotal_broken', 'ruled.tax_broken',
    'ruled.order_total_broken', 'ruled.sum_broken',
] -%}
judged as (
    select
        ruled.*,
        {{ joined_rules(rules) }} as failed_rules,
        case
            when coalesce({{ rules | join(', ') }}) is not null
                then {{ named_texts({
                    'id': 'ruled.order_id', 'customer': 'ruled.customer_id', 'ordered_at': 'ruled.ordered_at_text',
                    'store_id': 'ruled.store_id', 'subtotal': 'ruled.subtotal_text', 'tax_paid': 'ruled.tax_text',
                    'order_total': 'ruled.order_total_text',
                }) }}
        end as record,
        '{{ var("shop_rules_version") }}' as rules_version
    from ruled
),

{{ settled_versions('order_key', [
    'order_key', 'order_id', 'customer_id', 'store_id', 'subtotal_usd', 'tax_usd', 'order_total_usd', 'ordered_on',
    'ordered_at',
], var('shop_rules_version')) }}

select * from final
