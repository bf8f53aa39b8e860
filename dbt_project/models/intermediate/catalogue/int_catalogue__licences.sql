with listed as (
    select * from {{ ref('int_catalogue__values') }}
),

final as (
    select
        -- ids
        listed.record_id,
        -- text
        {{ without_links('listed.text_value') }} as licence,
        {{ web_address('listed.text_value') }} as licence_url,
        -- numerics
        listed.place
    from listed
    where listed.kind = 'licence' and listed.text_value is not null
)

select * from final
