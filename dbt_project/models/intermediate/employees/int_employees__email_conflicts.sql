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

claims_since as (
    select
        versions.id,
        versions.email,
        min(versions.loaded_at) as claimed_at
    from versions
    group by versions.id, versions.email
),

claims as (
    select
        versions.id,
        versions.email,
        row_number() over (
            partition by versions.email
            order by claims_since.claimed_at asc, {{ first_place_first('versions') }}
        ) as claim_number
    from versions
    inner join shared_emails on versions.email = shared_emails.email
    inner join claims_since on versions.id = claims_since.id and versions.email = claims_since.email
    where versions.version_number = 1
),

final as (
    select
        -- ids
        contenders.id,
        claims.id as holder_id,
        -- text
        contenders.email,
        contenders.source,
        contenders.content_hash,
        -- numerics
        contenders.line
    from contenders
    inner join claims on contenders.email = claims.email
    where
        claims.claim_number = 1
        and contenders.id <> claims.id
)

select * from final
