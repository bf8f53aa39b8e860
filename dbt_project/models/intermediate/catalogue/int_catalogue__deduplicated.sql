{#- A table: books, rejections and marts all read what became of each record. -#}
{{ config(materialized='table') }}

with validated as (
    select * from {{ ref('int_catalogue__validated') }}
),

datasets as (
    select * from {{ ref('stg_registry__datasets') }}
),

listed as (
    select
        datasets.*,
        {{ tidied('datasets.slug', 'true') }} as tidy_slug
    from datasets
),

records as (
    select
        validated.slug,
        validated.record_id,
        validated.load_id,
        validated.run_id,
        validated.failed_rules,
        validated.source,
        validated.location,
        validated.content_hash,
        validated.line,
        validated.loaded_at
    from validated
    union all
    select
        listed.tidy_slug as slug,
        cast(null as {{ text_type() }}) as record_id,
        listed.load_id,
        listed.run_id,
        case when listed.tidy_slug is null then 'slug_missing' end as failed_rules,
        listed.source,
        listed.location,
        listed.content_hash,
        listed.line,
        listed.loaded_at
    from listed
),

-- the newest valid version of a data set first; what follows the time only makes the order complete
versions as (
    select
        records.*,
        row_number() over (
            partition by records.source, records.slug, records.failed_rules is null
            order by records.loaded_at desc, records.location desc, records.line desc, records.content_hash desc
        ) as version_number
    from records
),

final as (
    select
        -- ids
        versions.slug,
        versions.record_id,
        versions.load_id,
        versions.run_id,
        -- text
        versions.failed_rules,
        case
            when versions.failed_rules is not null then 'rejected'
            {%- if var('enable_deduplication') %}
            when versions.version_number > 1 then 'duplicate'
            {%- endif %}
            else 'accepted'
        end as outcome,
        versions.source,
        versions.location,
        versions.content_hash,
        -- numerics
        versions.line,
        -- timestamps
        versions.loaded_at
    from versions
)

select * from final
