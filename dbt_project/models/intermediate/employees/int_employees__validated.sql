{#-
    A table: uniqueness, deduplication and the marts all read it, so every value is normalised and judged once.

    With enable_validation off the rules of the business are skipped. What the published table cannot hold is still
    rejected: a value that could not be read, no id, not knowing who is active, a second id with the same e-mail.
-#}
{{ config(materialized='table') }}

with normalised as (
    select * from {{ ref('int_employees__normalised') }}
),

departments as (
    select distinct department_aliases.department
    from {{ ref('department_aliases') }} as department_aliases
),

-- at most one rule per field: the first that tells what to mend
judged as (
    select
        normalised.*,
        case
            when normalised.id is null then 'id_missing'
            when normalised.is_unusual and {{ is_no_plain_text('normalised.id') }} then 'id_unreadable'
        end as id_unusable,
        case
            when normalised.is_unusual and {{ is_no_plain_text('normalised.name') }} then 'name_unreadable'
        end as name_unusable,
        case
            when normalised.age is not null or normalised.age_text is null then null
            when {{ is_number_with_fraction('normalised.age_text') }} then 'age_not_whole'
            else 'age_unreadable'
        end as age_unusable,
        case
            when normalised.salary is not null or normalised.salary_text is null then null
            when {{ is_too_precise_usd('normalised.salary_text') }} then 'salary_too_precise'
            else 'salary_unreadable'
        end as salary_unusable,
        case
            when normalised.join_date is not null or normalised.join_date_text is null then null
            when {{ is_ambiguous_date('normalised.join_date_text') }} then 'join_date_ambiguous'
            else 'join_date_unreadable'
        end as join_date_unusable,
        case
            when normalised.is_active is not null then null
            when normalised.is_active_text is null then 'is_active_missing'
            else 'is_active_unreadable'
        end as is_active_unusable,
        case
            when normalised.metadata_kind = 'unreadable' then 'metadata_unreadable'
        end as metadata_unusable,
        case
            when normalised.updated_at is null and normalised.updated_at_text is not null then 'updated_at_unreadable'
        end as updated_at_unusable,
        case
            when normalised.name is null then 'name_missing'
            when normalised.is_unusual and {{ is_no_plain_text('normalised.name') }} then null
            when
                length(normalised.name) not between {{ var('employee_name_length_minimum') }}
                and {{ var('employee_name_length_maximum') }} then 'name_length'
        end as name_broken,
        case
            when normalised.email is null then 'email_missing'
            when not ({{ is_email('normalised.email') }}) then 'email_malformed'
        end as email_broken,
        case
            when normalised.age_text is null then 'age_missing'
            when
                normalised.age not between {{ var('employee_age_minimum_years') }}
                and {{ var('employee_age_maximum_years') }} then 'age_out_of_range'
        end as age_broken,
        case
            when normalised.department is null then 'department_missing'
            when departments.department is null then 'department_unknown'
        end as department_broken,
        case
            when normalised.salary_text is null then 'salary_missing'
            when normalised.salary <= 0 or normalised.salary > {{ var('employee_salary_maximum_usd') }}
                then 'salary_out_of_range'
        end as salary_broken,
        case
            when normalised.join_date_text is null then 'join_date_missing'
            when normalised.join_date > {{ as_of_date() }} then 'join_date_in_future'
        end as join_date_broken,
        case
            when normalised.metadata_kind = 'other' then 'metadata_not_an_object'
        end as metadata_broken
    from normalised
    left join departments on normalised.department = departments.department
),

final as (
    select
        -- ids
        judged.id,
        judged.load_id,
        judged.run_id,
        -- text
        judged.name,
        judged.email,
        judged.department,
        judged.metadata,
        {{ joined_rules(
            [
                'judged.id_unusable', 'judged.name_unusable', 'judged.age_unusable', 'judged.salary_unusable',
                'judged.join_date_unusable', 'judged.is_active_unusable', 'judged.metadata_unusable',
                'judged.updated_at_unusable',
            ] + ([
                'judged.name_broken', 'judged.email_broken', 'judged.age_broken', 'judged.department_broken',
                'judged.salary_broken', 'judged.join_date_broken', 'judged.metadata_broken',
            ] if var('enable_validation') else [])
        ) }} as failed_rules,
        judged.source,
        judged.location,
        judged.content_hash,
        -- numerics
        judged.age,
        judged.salary,
        judged.source_priority,
        judged.line,
        -- booleans
        judged.is_active,
        -- dates
        judged.join_date,
        -- timestamps
        judged.updated_at,
        judged.loaded_at
    from judged
)

select * from final
