with deduplicated as (
    select * from {{ ref('int_catalogue__deduplicated') }}
),

normalised as (
    select * from {{ ref('int_catalogue__normalised') }}
),

contributors as (
    select * from {{ ref('int_catalogue__contributors') }}
),

licences as (
    select * from {{ ref('int_catalogue__licences') }}
),

keywords as (
    select * from {{ ref('int_catalogue__keywords') }}
),

resources as (
    select * from {{ ref('int_catalogue__resources') }}
),

named as (
    select
        contributors.record_id,
        count(case when contributors.role = 'publisher' then 1 end) as count_publishers,
        count(case when contributors.role = 'maintainer' then 1 end) as count_maintainers,
        count(case when contributors.role = 'author' then 1 end) as count_authors
    from contributors
    group by contributors.record_id
),

-- the first that a record names; how many there are is counted beside
publishers as (
    select
        contributors.*,
        row_number() over (partition by contributors.record_id order by contributors.place) as number_of_role
    from contributors
    where contributors.role = 'publisher'
),

maintainers as (
    select
        contributors.*,
        row_number() over (partition by contributors.record_id order by contributors.place) as number_of_role
    from contributors
    where contributors.role = 'maintainer'
),

numbered_licences as (
    select
        licences.*,
        row_number() over (partition by licences.record_id order by licences.place) as licence_number,
        count(*) over (partition by licences.record_id) as count_licences
    from licences
),

counted_keywords as (
    select
        keywords.record_id,
        count(*) as count_keywords
    from keywords
    group by keywords.record_id
),

counted_resources as (
    select
        resources.record_id,
        count(*) as count_resources,
        count(distinct resources.format) as count_formats
    from resources
    group by resources.record_id
),

final as (
    select
        -- ids
        deduplicated.slug,
        -- text
        normalised.name,
        normalised.description,
        publishers.name as publisher,
        publishers.url as publisher_url,
        maintainers.name as maintainer,
        maintainers.email as maintainer_email,
        numbered_licences.licence,
        numbered_licences.licence_url,
        normalised.update_frequency,
        normalised.documentation,
        normalised.citation,
        normalised.deprecated_notice,
        -- numerics
        coalesce(counted_keywords.count_keywords, 0) as count_keywords,
        coalesce(counted_resources.count_resources, 0) as count_resources,
        coalesce(counted_resources.count_formats, 0) as count_formats,
        coalesce(numbered_licences.count_licences, 0) as count_licences,
        coalesce(named.count_publishers, 0) as count_publishers,
        coalesce(named.count_maintainers, 0) as count_maintainers,
        coalesce(named.count_authors, 0) as count_authors,
        -- booleans
        coalesce(normalised.is_deprecated, false) or normalised.deprecated_notice is not null as is_deprecated,
        -- timestamps
        normalised.loaded_at as fetched_at
    from deduplicated
    inner join normalised on deduplicated.record_id = normalised.record_id
    left join named on deduplicated.record_id = named.record_id
    left join publishers on deduplicated.record_id = publishers.record_id and publishers.number_of_role = 1
    left join maintainers on deduplicated.record_id = maintainers.record_id and maintainers.number_of_role = 1
    left join numbered_licences
        on deduplicated.record_id = numbered_licences.record_id and numbered_licences.licence_number = 1
    left join counted_keywords on deduplicated.record_id = counted_keywords.record_id
    left join counted_resources on deduplicated.record_id = counted_resources.record_id
    where deduplicated.outcome = 'accepted'
)

select * from final
