{#- A table: six models read it, and every record is parsed and tidied once. -#}
{{ config(materialized='table') }}

with details as (
    select * from {{ ref('stg_registry__dataset_details') }}
),

final as (
    select
        -- ids
        {{ tidied('details.slug', 'true') }} as slug,
        details.content_hash || '-' || cast(details.line as {{ text_type() }}) as record_id,
        details.load_id,
        details.run_id,
        -- text
        {{ tidied('details.name', 'true') }} as name,
        {{ tidied(without_tags('details.description'), 'true') }} as description,
        {{ tidied('details.documentation', 'true') }} as documentation,
        {{ tidied('details.update_frequency', 'true') }} as update_frequency,
        {{ tidied('details.citation', 'true') }} as citation,
        {{ tidied('details.deprecated', 'true') }} as deprecated_text,
        {{ tidied('details.deprecated_notice', 'true') }} as deprecated_notice,
        details.publishers,
        details.maintainers,
        details.licences,
        details.keywords,
        details.resources,
        details.data_at_work,
        details.source,
        details.location,
        details.content_hash,
        -- numerics
        details.line,
        -- booleans
        {{ yes_or_no(tidied('details.deprecated', 'true')) }} as is_deprecated,
        details.is_readable,
        -- timestamps
        details.loaded_at
    from details
)

select * from final
