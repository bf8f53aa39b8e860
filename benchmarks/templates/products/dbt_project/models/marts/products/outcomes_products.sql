{{ config(materialized='view') }}

with judged as (
    select * from {{ ref('int_products__judged') }}
),

final as (
    select
        -- ids
        judged.load_id,
        judged.run_id,
        judged.id as record_key,
        -- text
        judged.source,
        judged.location,
        judged.content_hash,
        judged.outcome,
        -- numerics
        judged.line,
        -- timestamps
        judged.loaded_at
    from judged
)

select * from final
