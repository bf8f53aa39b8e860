with enriched as (
    select * from {{ ref('int_employees__enriched') }}
),

final as (
    select
        -- ids
        enriched.id,
        -- text
        enriched.name,
        enriched.email,
        enriched.department,
        enriched.metadata,
        enriched.salary_grade,
        enriched.tech_level,
        enriched.skills,
        -- numerics
        enriched.age,
        enriched.salary,
        enriched.experience_years,
        enriched.enrichment_version,
        -- booleans
        enriched.is_active,
        -- dates
        enriched.join_date,
        -- timestamps
        enriched.processed_at
    from enriched
)

select * from final
