{#- Incremental, as int_shop__orders is. -#}
{{ config(
    unique_key='customer_key',
    indexes=lookup_indexes(['customer_key'])
) }}

with {{ loads_seen('shop__customers', var('shop_rules_version')) }}

customers as (
    select * from {{ ref('stg_shop__customers') }}
),

trimmed as (
    select
        {{ trimmed('customers.customer_id') }} as customer_id,
        {{ trimmed('customers.customer_name') }} as customer_name,
        customers.load_id,
        customers.run_id,
        customers.source,
        customers.location,
        customers.content_hash,
        customers.line,
        customers.loaded_at
    from customers
    where {{ is_unseen('customers') }}
    {{ computed_once() }}
),

ruled as (
    select
        trimmed.*,
        coalesce(trimmed.customer_id, trimmed.content_hash || ':' || trimmed.line) as customer_key,
        case
            when trimmed.customer_id is null then 'customer_id_missing'
            when {{ is_no_plain_text('trimmed.customer_id') }} then 'customer_id_unreadable'
            when trimmed.customer_id = '{{ unknown_member() }}' then 'customer_id_reserved'
        end as id_broken,
        case
            when trimmed.customer_name is null then 'customer_name_missing'
            when {{ is_no_plain_text('trimmed.customer_name') }} then 'customer_name_unreadable'
        end as name_broken
    from trimmed
),

judged as (
    select
        ruled.*,
        {{ joined_rules(['ruled.id_broken', 'ruled.name_broken']) }} as failed_rules,
        case
            when ruled.id_broken is not null or ruled.name_broken is not null
                then {{ named_texts({'id': 'ruled.customer_id', 'name': 'ruled.customer_name'}) }}
        end as record,
        '{{ var("shop_rules_version") }}' as rules_version
    from ruled
),

{{ settled_versions('customer_key', ['customer_key', 'customer_id', 'customer_name'], var('shop_rules_version')) }}

select * from final
