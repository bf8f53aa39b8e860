{#-
    An e-mail belongs to one of the ids whose newest valid version claims it: the one that had it first, so that an
    address does not change hands because its holder was updated. A small table: only contested records are in it.
-#}
{{ config(materialized='table') }}

with validated as (
    select * from {{ ref('int_employees__validated') }}
),

shared_emails as (
    select * from {{ ref('int_employees__shared_emails') }}
),

contenders as (
    select validated.*
    from validated
    inner join shared_emails on validated.email = shared_emails.email
),

contending_ids as (
    select distinct contenders.id
    from contenders
),

versions as (
    select
        validated.*,
        row_number() over (partition by validated.id order by {{ newest_version_first('validated') }}) as version_number
    from validated
    inner join contending_ids on validated.id = contending_ids.id
    where validated.failed_rules is null
),

claims as (
    select
        versions.id,
        versions.email
    from versions
    inner join shared_emails on versions.email = shared_emails.email
    where versions.version_number = 1
),

numbered_claims as (
    select
        claims.email,
        claims.id,
        row_number() over (partition by claims.email order by {{ first_claim_first('versions') }}) as claim_number
    from claims
    inner join versions on claims.id = versions.id and claims.email = versions.email
),

final as (
    select
        -- ids
        contenders.id,
        numbered_claims.id as holder_id,
        -- text
        contenders.email,
        contenders.source,
        contenders.content_hash,
        -- numerics
        contenders.line
    from contenders
    inner join numbered_claims on contenders.email = numbered_claims.email
    where
        numbered_claims.claim_number = 1
        and contenders.id <> numbered_claims.id
)

select * from final
