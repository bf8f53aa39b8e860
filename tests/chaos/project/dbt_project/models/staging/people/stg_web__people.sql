with source as (
    {{ complete_records(source('raw', 'web__people')) }}
),

parsed as (
    select
        source.*,
        {{ json_parsed('source.record', texts=['id', 'name', 'team', 'amount', 'at'], documents=[]) }} as fields
    from source
),

renamed as (
    select
        -- ids
        {{ json_text('parsed.fields', 'id') }} as id,
        parsed._load_id as load_id,
        parsed._run_id as run_id,
        -- text
        {{ json_text('parsed.fields', 'name') }} as name,
        {{ json_text('parsed.fields', 'team') }} as team,
        {{ json_text('parsed.fields', 'amount') }} as amount,
        {{ json_text('parsed.fields', 'at') }} as changed_at,
        parsed._source as source,
        parsed._location as location,
        parsed._content_hash as content_hash,
        -- numerics
        parsed._line as line,
        -- timestamps
        parsed._loaded_at as loaded_at
    from parsed
)

select * from renamed
