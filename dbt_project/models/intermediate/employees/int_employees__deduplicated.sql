{#-
    A view: it only looks records up in the small tables of those set aside, and each reader needs other columns.

    With enable_deduplication off every valid record goes on, and two of one id make the key test of the mart fail.
-#}
with validated as (
    select * from {{ ref('int_employees__validated') }}
),

email_conflicts as (
    select * from {{ ref('int_employees__email_conflicts') }}
),

email_collisions as (
    select * from {{ ref('int_employees__email_collisions') }}
),

superseded as (
    select * from {{ ref('int_employees__superseded') }}
),

settled as (
    select
        validated.*,
        case
            when email_conflicts.line is not null or email_collisions.line is not null then 'email_not_unique'
        end as email_not_unique,
        superseded.line is not null as is_superseded
    from validated
    left join email_conflicts
        on
            validated.source = email_conflicts.source
            and validated.content_hash = email_conflicts.content_hash
            and validated.line = email_conflicts.line
    left join email_collisions
        on
            validated.source = email_collisions.source
            and validated.content_hash = email_collisions.content_hash
            and validated.line = email_collisions.line
    left join superseded
        on
            validated.source = superseded.source
            and validated.content_hash = superseded.content_hash
            and validated.line = superseded.line
),

final as (
    select
        -- ids
        settled.id,
        settled.load_id,
        settled.run_id,
        -- text
        settled.name,
        settled.email,
        settled.department,
        settled.metadata,
        {{ joined_rules(['settled.failed_rules', 'settled.email_not_unique']) }} as failed_rules,
        case
            when settled.failed_rules is not null or settled.email_not_unique is not null then 'rejected'
            {%- if var('enable_deduplication') %}
            when settled.is_superseded then 'duplicate'
            {%- endif %}
            else 'accepted'
        end as outcome,
        settled.source,
        settled.location,
        settled.content_hash,
        -- numerics
        settled.age,
        settled.salary,
        settled.line,
        -- booleans
        settled.is_active,
        -- dates
        settled.join_date,
        -- timestamps
        settled.updated_at,
        settled.loaded_at
    from settled
)

select * from final
