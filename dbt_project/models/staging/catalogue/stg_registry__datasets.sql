with source as (
    {{ complete_records(source('raw', 'registry__datasets')) }}
),

parsed as (
    select
        source.*,
        {{ json_parsed('source.record', texts=['slug'], documents=[]) }} as fields
    from source
),

renamed as (
    select
        -- ids
        {{ json_text('parsed.fields', 'slug') }} as slug,
        parsed._load_id as load_id,
        parsed._run_id as run_id,
        -- text
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
