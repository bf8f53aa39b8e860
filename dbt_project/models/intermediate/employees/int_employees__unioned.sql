{%- set columns %}
        id,
        load_id,
        run_id,
        name,
        email,
        age,
        department,
        salary,
        join_date,
        is_active,
        metadata,
        updated_at,
        source,
        location,
        content_hash,
        source_priority,
        line,
        loaded_at
{%- endset -%}

with hr as (
    select * from {{ ref('stg_hr__employees') }}
),

payroll as (
    select * from {{ ref('stg_payroll__employees') }}
),

directory as (
    select * from {{ ref('stg_directory__employees') }}
),

talent as (
    select * from {{ ref('stg_talent__employees') }}
),

final as (
    select {{ columns }}
    from hr
    union all
    select {{ columns }}
    from payroll
    union all
    select {{ columns }}
    from directory
    union all
    select {{ columns }}
    from talent
)

select * from final
