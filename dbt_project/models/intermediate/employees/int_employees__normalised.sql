{#- With enable_normalization off texts stay and only the plainest form of a value is read: see macros/values.sql. -#}
{%- set texts = ['id', 'name', 'email', 'age', 'department', 'salary', 'join_date', 'is_active', 'updated_at'] -%}

with unioned as (
    select * from {{ ref('int_employees__unioned') }}
),

department_aliases as (
    select * from {{ ref('department_aliases') }}
),

looked_at as (
    select
        unioned.*,
        {{ is_unusual(texts) }} as is_unusual
    from unioned
    {{ computed_once() }}
),

tidied as (
    select
        looked_at.load_id,
        looked_at.run_id,
        {%- for column in texts %}
        {{ tidied('looked_at.' ~ column, 'looked_at.is_unusual') }} as {{ column }},
        {%- endfor %}
        -- white space inside a JSON text may belong to one of its strings
        case when {{ has_characters('looked_at.metadata') }} then looked_at.metadata end as metadata,
        looked_at.source,
        looked_at.location,
        looked_at.content_hash,
        looked_at.source_priority,
        looked_at.line,
        looked_at.is_unusual,
        looked_at.loaded_at
    from looked_at
    {{ computed_once() }}
),

final as (
    select
        -- ids
        tidied.id,
        tidied.load_id,
        tidied.run_id,
        -- text
        {%- if var('enable_normalization') %}
        {{ title_cased('tidied.name') }} as name,
        lower(tidied.email) as email,
        coalesce(department_aliases.department, tidied.department) as department,
        {%- else %}
        tidied.name,
        tidied.email,
        tidied.department,
        {%- endif %}
        tidied.age as age_text,
        tidied.salary as salary_text,
        tidied.join_date as join_date_text,
        tidied.is_active as is_active_text,
        tidied.updated_at as updated_at_text,
        tidied.metadata,
        {{ json_kind('tidied.metadata') }} as metadata_kind,
        tidied.source,
        tidied.location,
        tidied.content_hash,
        -- numerics
        {{ whole_number('tidied.age') }} as age,
        {{ amount_usd('tidied.salary') }} as salary,
        tidied.source_priority,
        tidied.line,
        -- booleans
        {{ yes_or_no('tidied.is_active') }} as is_active,
        tidied.is_unusual,
        -- dates
        {{ calendar_date('tidied.join_date') }} as join_date,
        -- timestamps
        {{ utc_timestamp('tidied.updated_at') }} as updated_at,
        tidied.loaded_at
    from tidied
    left join department_aliases on lower(tidied.department) = department_aliases.alias
    {{ computed_once() }}
)

select * from final
