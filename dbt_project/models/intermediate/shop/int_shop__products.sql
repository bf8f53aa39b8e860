{#- Incremental, as int_shop__orders is. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='product_key',
    on_schema_change='fail',
    indexes=lookup_indexes(['product_key'])
) }}
{%- set columns = [
    'product_key', 'sku', 'load_id', 'run_id', 'product_name', 'category', 'description', 'failed_rules', 'record',
    'source', 'location', 'content_hash', 'rules_version', 'price_usd', 'line', 'loaded_at',
] -%}

with products as (
    select * from {{ ref('stg_shop__products') }}
),

trimmed as (
    select
        {{ trimmed('products.sku') }} as sku,
        {{ trimmed('products.product_name') }} as product_name,
        {{ trimmed('products.category') }} as category,
        {{ trimmed('products.description') }} as description,
        {{ trimmed('products.price_cents') }} as price_text,
        products.load_id,
        products.run_id,
        products.source,
        products.location,
        products.content_hash,
        products.line,
        products.loaded_at
    from products
    where {{ is_unseen('products', 'shop__products', var('shop_rules_version')) }}
    {{ computed_once() }}
),

valued as (
    select
        trimmed.*,
        coalesce(trimmed.sku, trimmed.content_hash || ':' || trimmed.line) as product_key,
        {{ cents_as_usd('trimmed.price_text') }} as price_usd
    from trimmed
    {{ computed_once() }}
),

-- at most one rule per field: the first that tells what to mend
ruled as (
    select
        valued.*,
        case
            when valued.sku is null then 'sku_missing'
            when {{ is_no_plain_text('valued.sku') }} then 'sku_unreadable'
            when valued.sku = '{{ var("shop_unknown_member") }}' then 'sku_reserved'
        end as sku_broken,
        case
            when valued.product_name is null then 'product_name_missing'
            when {{ is_no_plain_text('valued.product_name') }} then 'product_name_unreadable'
        end as name_broken,
        case
            when valued.category is null then 'category_missing'
            when {{ is_no_plain_text('valued.category') }} then 'category_unreadable'
            when valued.category = '{{ var("shop_unknown_member") }}' then 'category_reserved'
        end as category_broken,
        case when {{ is_no_plain_text('valued.description') }} then 'description_unreadable' end as description_broken,
        case
            when valued.price_text is null then 'price_missing'
            when valued.price_usd is null then 'price_unreadable'
            when valued.price_usd < 0 then 'price_negative'
        end as price_broken
    from valued
),

judged as (
    select
        ruled.*,
        {{ joined_rules([
            'ruled.sku_broken', 'ruled.name_broken', 'ruled.category_broken', 'ruled.description_broken',
            'ruled.price_broken',
        ]) }} as failed_rules,
        case
            when
                coalesce(
                    ruled.sku_broken, ruled.name_broken, ruled.category_broken, ruled.description_broken,
                    ruled.price_broken
                ) is not null
                then {{ named_texts({
                    'sku': 'ruled.sku', 'name': 'ruled.product_name', 'type': 'ruled.category',
                    'price': 'ruled.price_text', 'description': 'ruled.description',
                }) }}
        end as record,
        '{{ var("shop_rules_version") }}' as rules_version
    from ruled
),

{{ settled_versions('product_key', columns, var('shop_rules_version')) }},

final as (
    select
        -- ids
        versions.product_key,
        versions.sku,
        versions.load_id,
        versions.run_id,
        -- text
        versions.product_name,
        versions.category,
        versions.description,
        versions.failed_rules,
        versions.outcome,
        versions.record,
        versions.source,
        versions.location,
        versions.content_hash,
        versions.rules_version,
        -- numerics
        versions.price_usd,
        versions.line,
        -- booleans
        versions.is_current,
        -- timestamps
        versions.loaded_at,
        versions.changed_at
    from versions
)

select * from final
