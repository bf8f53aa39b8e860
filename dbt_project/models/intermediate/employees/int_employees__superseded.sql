{#- A table of the losers alone: they are fewer than the winners, which are not written once more. -#}
{{ config(materialized='table') }}

with validated as (
    select * from {{ ref('int_employees__validated') }}
),

email_conflicts as (
    select * from {{ ref('int_employees__email_conflicts') }}
),

versions as (
    select
        validated.*,
        row_number() over (partition by validated.id order by {{ newest_version_first('validated') }}) as version_number
    from validated
    left join email_conflicts
        on
            validated.source = email_conflicts.source
            and validated.content_hash = email_conflicts.content_hash
            and validated.line = email_conflicts.line
    where
        validated.failed_rules is null
        and email_conflicts.line is null
),

final as (
    select
        -- ids
        versions.id,
        -- text
        versions.source,
        versions.content_hash,
        -- numerics
        versions.line,
        versions.version_number
    from versions
    where versions.version_number > 1
)

select * from final
