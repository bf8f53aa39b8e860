{#- A small table: it lets the two models that settle e-mails look at the few records concerned and skip the rest. -#}
{{ config(materialized='table') }}

with validated as (
    select * from {{ ref('int_employees__validated') }}
),

final as (
    select validated.email
    from validated
    where validated.id is not null and validated.email is not null
    group by validated.email
    having min(validated.id) <> max(validated.id)
)

select * from final
