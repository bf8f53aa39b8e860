{#- A table: the outcomes and the mart both read it. -#}
{{ config(materialized='table') }}

with products as (
    select * from {{ ref('stg_bench__products') }}
),

loads as (
    select * from {{ ref('stg_ingestion__loads') }}
),

typed as (
    select
        products.id,
        products.load_id,
        products.run_id,
        products.name,
        products.category,
        products.source,
        products.location,
        products.content_hash,
        {{ amount_usd('products.price') }} as price_usd,
        products.line,
        loads.is_current,
        {{ calendar_date('products.changed_on') }} as changed_on,
        products.loaded_at
    from products
    inner join loads on products.load_id = loads.load_id
),

final as (
    select
        typed.*,
        case
            when typed.id is null or coalesce(typed.price_usd <= 0, true) then 'rejected'
            when not typed.is_current then 'duplicate'
            else 'accepted'
        end as outcome
    from typed
)

select * from final
