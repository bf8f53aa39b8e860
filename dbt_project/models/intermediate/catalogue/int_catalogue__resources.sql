with listed as (
    select * from {{ ref('int_catalogue__values') }}
),

parsed as (
    select
        listed.*,
        {{ json_parsed(
            'listed.element',
            texts=['Description', 'ARN', 'Region', 'Type', 'Host', 'RequesterPays', 'ControlledAccess'],
            documents=[]
        ) }} as fields
    from listed
    where listed.kind = 'resource' and listed.shape = 'object'
    {{ computed_once() }}
),

final as (
    select
        -- ids
        parsed.record_id,
        -- text
        {{ tidied(json_text('parsed.fields', 'Type'), 'true') }} as format,
        {{ tidied(json_text('parsed.fields', 'ARN'), 'true') }} as resource_name,
        {{ tidied(json_text('parsed.fields', 'Region'), 'true') }} as region,
        {{ tidied(json_text('parsed.fields', 'Host'), 'true') }} as host,
        {{ tidied(json_text('parsed.fields', 'Description'), 'true') }} as description,
        {{ tidied(json_text('parsed.fields', 'ControlledAccess'), 'true') }} as controlled_access,
        -- numerics
        parsed.place,
        -- booleans
        {{ yes_or_no(json_text('parsed.fields', 'RequesterPays')) }} as is_requester_paying
    from parsed
)

select * from final
