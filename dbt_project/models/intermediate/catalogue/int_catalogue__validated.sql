with normalised as (
    select * from {{ ref('int_catalogue__normalised') }}
),

listed as (
    select * from {{ ref('int_catalogue__values') }}
),

lists as (
    select
        listed.record_id,
        count(case when listed.kind = 'publisher' then listed.text_value end) as count_publishers,
        count(case when listed.kind = 'licence' then listed.text_value end) as count_licences,
        bool_or(listed.kind = 'publisher' and listed.shape in ('object', 'array')) as has_odd_publisher,
        bool_or(listed.kind = 'licence' and listed.shape in ('object', 'array')) as has_odd_licence,
        bool_or(listed.kind = 'keyword' and listed.shape in ('object', 'array')) as has_odd_keyword,
        bool_or(listed.kind = 'resource' and listed.shape <> 'object') as has_odd_resource
    from listed
    group by listed.record_id
),

-- at most one rule per field: the first that tells what to mend
judged as (
    select
        normalised.*,
        case
            when normalised.slug is null then 'slug_missing'
            when not {{ matches('normalised.slug', '^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$') }} then 'slug_unreadable'
        end as slug_broken,
        case
            when normalised.name is null then 'name_missing'
            when {{ is_no_plain_text('normalised.name') }} then 'name_unreadable'
        end as name_broken,
        case when {{ matches('normalised.description', '^[{]') }} then 'description_unreadable' end
            as description_broken,
        case
            when lists.has_odd_publisher then 'publisher_unreadable'
            when coalesce(lists.count_publishers, 0) = 0 then 'publisher_missing'
        end as publisher_broken,
        case
            when lists.has_odd_licence then 'licence_unreadable'
            when coalesce(lists.count_licences, 0) = 0 then 'licence_missing'
        end as licence_broken,
        case when lists.has_odd_keyword then 'keywords_unreadable' end as keywords_broken,
        case when lists.has_odd_resource then 'resources_unreadable' end as resources_broken,
        case
            when normalised.deprecated_text is not null and normalised.is_deprecated is null
                then 'deprecated_unreadable'
        end as deprecated_broken
    from normalised
    left join lists on normalised.record_id = lists.record_id
),

final as (
    select
        -- ids
        judged.slug,
        judged.record_id,
        judged.load_id,
        judged.run_id,
        -- text
        case
            -- nothing else can be told of it
            when not judged.is_readable then 'record_unreadable'
            else {{ joined_rules(
                ['judged.slug_broken', 'judged.name_broken', 'judged.keywords_broken', 'judged.resources_broken',
                 'judged.deprecated_broken', 'judged.description_broken']
                + (['judged.publisher_broken', 'judged.licence_broken'] if var('enable_validation') else [])
            ) }}
        end as failed_rules,
        judged.source,
        judged.location,
        judged.content_hash,
        -- numerics
        judged.line,
        -- timestamps
        judged.loaded_at
    from judged
)

select * from final
