{#- A table: the outcomes and both marts read it. -#}
{{ config(materialized='table') }}

with people as (
    select * from {{ ref('stg_hr__people') }}
    union all
    select * from {{ ref('stg_lab__people') }}
    union all
    select * from {{ ref('stg_web__people') }}
),

loads as (
    select * from {{ ref('stg_ingestion__loads') }}
),

typed as (
    select
        people.*,
        people.source || '-' || people.id as person,
        {{ whole_number('people.amount') }} as amount_number,
        loads.is_current
    from people
    inner join loads on people.load_id = loads.load_id
),

judged as (
    select
        typed.*,
        coalesce(typed.id, '') = '' or (coalesce(typed.amount, '') <> '' and typed.amount_number is null)
            as is_rejected
    from typed
),

-- By what the record itself says, so that the order in which files are loaded does not matter.
numbered as (
    select
        judged.*,
        row_number() over (
            partition by judged.person, judged.is_rejected, judged.is_current
            order by coalesce(judged.changed_at, '') desc, judged.location desc, judged.line desc, judged.loaded_at desc
        ) as place
    from judged
),

final as (
    select
        numbered.*,
        case
            when numbered.is_rejected then 'rejected'
            when not numbered.is_current or numbered.place > 1 then 'duplicate'
            else 'accepted'
        end as outcome
    from numbered
)

select * from final
