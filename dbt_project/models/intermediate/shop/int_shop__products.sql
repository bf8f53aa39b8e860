{#- Incremental, as int_shop__orders is. -#}
{{ config(
    unique_key='product_key',
    indexes=lookup_indexes(['product_key'])
) }}

with {{ loads_seen('shop__products', var('shop_rules_version')) }}

products as (
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
    where {{ is_unseen('products') }}
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
            when valued.sku = '{{ unknown_member() }}' then 'sku_reserved'
        end as sku_broken,
        case
            when valued.product_name is null then 'product_name_missing'
            when {{ is_no_plain_text('valued.product_name') }} then 'product_name_unreadable'
        end as name_broken,
        case
            when valued.category is null then 'category_missing'
            when {{ is_no_plain_text('valued.category') }} then 'category_unreadable'
            when valued.category = '{{ unknown_member() }}' then 'category_reserved'
        end as category_broken,
        case when {{ is_no_plain_text('valued.description') }} then 'description_unreadable' end as description_broken,
        case
            when valued.price_text is null then 'price_missing'
            when valued.price_usd is null then 'price_unreadable'
            when valued.price_usd < 0 then 'price_negative'
        end as price_broken
    from valued
),

{% set rules = [
    'ruled.sku_broken', 'ruled.name_broken', 'ruled.category_broken', 'ruled.description_broken', 'ruled.price_broken',
] -%}
judged as (
    select
        ruled.*,
        {{ joined_rules(rules) }} as failed_rules,
        case
            when coalesce({{ rules | join(', ') }}) is not null
                then {{ named_texts({
                    'sku': 'ruled.sku', 'name': 'ruled.product_name', 'type': 'ruled.category',
                    'price': 'ruled.price_text', 'description': 'ruled.description',
                }) }}
        end as record,
        '{{ var("shop_rules_version") }}' as rules_version
    from ruled
),

{{ settled_versions('product_key', [
    'product_key', 'sku', 'product_name', 'category', 'description', 'price_usd',
], var('shop_rules_version')) }}

select * from final
