{#-
    An id whose newest version lost its e-mail falls back to an older version. Two that do so can meet in an e-mail that
    no newest version claims; the mart must not hold it twice. A small table: only contested records are in it.
-#}
{{ config(materialized='table') }}

with validated as (
    select * from {{ ref('int_employees__validated') }}
),

shared_emails as (
    select * from {{ ref('int_employees__shared_emails') }}
),

email_conflicts as (
    select * from {{ ref('int_employees__email_conflicts') }}
),

superseded as (
    select * from {{ ref('int_employees__superseded') }}
),

numbered as (
    select
        validated.*,
        row_number() over (
            partition by validated.email
            order by validated.loaded_at asc, {{ first_place_first('validated') }}
        ) as claim_number
    from validated
    inner join shared_emails on validated.email = shared_emails.email
    left join email_conflicts
        on
            validated.source = email_conflicts.source
            and validated.content_hash = email_conflicts.content_hash
            and validated.line = email_conflicts.line
    left join superseded
        on
            validated.source = superseded.source
            and validated.content_hash = superseded.content_hash
            and validated.line = superseded.line
    where
        validated.failed_rules is null
        and email_conflicts.line is null
        and superseded.line is null
),

final as (
    select
        -- ids
        numbered.id,
        -- text
        numbered.email,
        numbered.source,
        numbered.content_hash,
        -- numerics
        numbered.line
    from numbered
    where numbered.claim_number > 1
)

select * from final
