with deduplicated as (
    select * from {{ ref('int_catalogue__deduplicated') }}
),

contributors as (
    select * from {{ ref('int_catalogue__contributors') }}
),

datasets as (
    select * from {{ ref('datasets') }}
),

-- once for each data set, though a record may name a publisher twice
published as (
    select
        contributors.name,
        deduplicated.slug,
        min(contributors.url) as url
    from deduplicated
    inner join contributors on deduplicated.record_id = contributors.record_id
    where deduplicated.outcome = 'accepted' and contributors.role = 'publisher'
    group by contributors.name, deduplicated.slug
),

final as (
    select
        -- ids
        published.name as publisher,
        -- text
        min(published.url) as publisher_url,
        -- numerics
        count(*) as count_datasets,
        count(case when datasets.is_deprecated then 1 end) as count_deprecated_datasets,
        cast(sum(datasets.count_resources) as bigint) as count_resources,
        -- timestamps
        max(datasets.fetched_at) as last_fetched_at
    from published
    inner join datasets on published.slug = datasets.slug
    group by published.name
)

select * from final
