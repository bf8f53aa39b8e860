{#- A table: the outcomes and the mart both read it. -#}
{{ config(materialized='table') }}

with employees as (
    select * from {{ ref('stg_bench__employees') }}
),

loads as (
    select * from {{ ref('stg_ingestion__loads') }}
),

typed as (
    select
        employees.id,
        employees.load_id,
        employees.run_id,
        employees.name,
        employees.email,
        case lower(employees.department)
            when 'eng' then 'Engineering'
            when 'engineering' then 'Engineering'
            when 'sales' then 'Sales'
            when 'mktg' then 'Marketing'
            when 'marketing' then 'Marketing'
            when 'hr' then 'HR'
            when 'finance' then 'Finance'
        end as department,
        employees.metadata,
        employees.source,
        employees.location,
        employees.content_hash,
        {{ whole_number('employees.age') }} as age,
        {{ amount_usd('employees.salary') }} as salary,
        employees.line,
        {{ yes_or_no('employees.is_active') }} as is_active,
        loads.is_current,
        {{ calendar_date('employees.join_date') }} as join_date,
        {{ utc_timestamp('employees.updated_at') }} as changed_at,
        employees.loaded_at
    from employees
    inner join loads on employees.load_id = loads.load_id
),

final as (
    select
        typed.*,
        case
            when
                typed.id is null
                or typed.department is null
                or typed.is_active is null
                or typed.join_date is null
                or coalesce(typed.age < 16, true)
                or coalesce(typed.salary <= 0, true)
                or coalesce(not contains(typed.email, '@'), true)
                then 'rejected'
            when not typed.is_current then 'duplicate'
            else 'accepted'
        end as outcome
    from typed
)

select * from final
