{#- A view: it repeats what a table holds already, and only the run's books read it. -#}
{{ config(materialized='view') }}

with deduplicated as (
    select * from {{ ref('int_catalogue__deduplicated') }}
),

final as (
    select
        -- ids
        deduplicated.load_id,
        deduplicated.run_id,
        deduplicated.slug as record_key,
        -- text
        deduplicated.source,
        deduplicated.location,
        deduplicated.content_hash,
        deduplicated.outcome,
        -- a row of the list only tells what to ask for
        case when deduplicated.record_id is not null then 'datasets' end as mart,
        -- numerics
        deduplicated.line,
        -- timestamps
        deduplicated.loaded_at
    from deduplicated
)

select * from final
