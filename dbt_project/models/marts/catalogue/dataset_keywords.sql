with deduplicated as (
    select * from {{ ref('int_catalogue__deduplicated') }}
),

keywords as (
    select * from {{ ref('int_catalogue__keywords') }}
),

final as (
    select
        -- ids
        deduplicated.slug,
        -- text
        keywords.keyword
    from deduplicated
    inner join keywords on deduplicated.record_id = keywords.record_id
    where deduplicated.outcome = 'accepted'
)

select * from final
