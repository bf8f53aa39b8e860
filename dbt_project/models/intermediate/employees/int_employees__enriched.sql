{#- With enable_enrichment off the six columns that this model adds are null. -#}
with deduplicated as (
    select * from {{ ref('int_employees__deduplicated') }}
),

department_profiles as (
    select * from {{ ref('department_profiles') }}
),

final as (
    select
        -- ids
        deduplicated.id,
        -- text
        deduplicated.name,
        deduplicated.email,
        deduplicated.department,
        deduplicated.metadata,
        {%- if var('enable_enrichment') %}
        case
            when deduplicated.salary < {{ var('salary_grade_mid_from_usd') }} then 'Junior'
            when deduplicated.salary < {{ var('salary_grade_senior_from_usd') }} then 'Mid'
            when deduplicated.salary < {{ var('salary_grade_principal_from_usd') }} then 'Senior'
            when deduplicated.salary is not null then 'Principal'
        end as salary_grade,
        department_profiles.tech_level,
        department_profiles.skills,
        {%- else %}
        cast(null as {{ text_type() }}) as salary_grade,
        cast(null as {{ text_type() }}) as tech_level,
        cast(null as {{ text_type() }}) as skills,
        {%- endif %}
        -- numerics
        deduplicated.age,
        deduplicated.salary,
        {%- if var('enable_enrichment') %}
        {{ completed_years('deduplicated.join_date', as_of_date()) }} as experience_years,
        {{ var('enrichment_version') }} as enrichment_version,
        {%- else %}
        cast(null as integer) as experience_years,
        cast(null as integer) as enrichment_version,
        {%- endif %}
        -- booleans
        deduplicated.is_active,
        -- dates
        deduplicated.join_date,
        -- timestamps: the load's time, not the build's, so that building again changes no row
        {%- if var('enable_enrichment') %}
        deduplicated.loaded_at as processed_at
        {%- else %}
        cast(null as {{ instant_type() }}) as processed_at
        {%- endif %}
    from deduplicated
    left join department_profiles on deduplicated.department = department_profiles.department
    where deduplicated.outcome = 'accepted'
)

select * from final
