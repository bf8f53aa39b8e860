{#- Incremental, as int_shop__orders is. An item has no price of its own: it is worth what its product costs. -#}
{{ config(
    unique_key='item_key',
    indexes=lookup_indexes(['item_key', 'order_id'])
) }}

with {{ loads_seen('shop__order_items', var('shop_rules_version')) }}

order_items as (
    select * from {{ ref('stg_shop__order_items') }}
),

trimmed as (
    select
        {{ trimmed('order_items.item_id') }} as item_id,
        {{ trimmed('order_items.order_id') }} as order_id,
        {{ trimmed('order_items.sku') }} as sku,
        order_items.load_id,
        order_items.run_id,
        order_items.source,
        order_items.location,
        order_items.content_hash,
        order_items.line,
        order_items.loaded_at
    from order_items
    where {{ is_unseen('order_items') }}
    {{ computed_once() }}
),

judged as (
    select
        trimmed.*,
        coalesce(trimmed.item_id, trimmed.content_hash || ':' || trimmed.line) as item_key,
        {{ joined_rules([
            "case when trimmed.item_id is null then 'item_id_missing' end",
            "case when trimmed.order_id is null then 'order_missing' end",
            "case when trimmed.sku is null then 'sku_missing' end",
        ]) }} as failed_rules,
        case
            when trimmed.item_id is null or trimmed.order_id is null or trimmed.sku is null
                then {{ named_texts({
                    'id': 'trimmed.item_id', 'order_id': 'trimmed.order_id', 'sku': 'trimmed.sku',
                }) }}
        end as record,
        '{{ var("shop_rules_version") }}' as rules_version
    from trimmed
),

{{ settled_versions('item_key', ['item_key', 'item_id', 'order_id', 'sku'], var('shop_rules_version')) }}

select * from final
