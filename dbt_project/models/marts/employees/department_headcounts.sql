with employees as (
    select * from {{ ref('employees') }}
),

final as (
    select
        -- text
        employees.department,
        -- numerics
        count(*) as count_employees,
        count(case when employees.is_active then 1 end) as count_active_employees,
        cast(sum(employees.salary) as decimal(18, 2)) as salary_total_usd,
        cast({{ average_usd('sum(employees.salary)', 'count(employees.salary)') }} as decimal(12, 2))
            as salary_average_usd
    from employees
    where employees.department is not null
    group by employees.department
)

select * from final
