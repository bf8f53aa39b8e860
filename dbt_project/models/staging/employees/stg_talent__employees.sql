with source as (
    {{ complete_records(source('raw', 'talent__employees')) }}
),

parsed as (
    select
        source.*,
        {{ json_parsed(
            'source.record',
            texts=['id', 'name', 'email', 'age', 'department', 'salary', 'joinDate', 'isActive', 'updatedAt'],
            documents=['metadata']
        ) }} as fields
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
        {{ json_text('parsed.fields', 'email') }} as email,
        {{ json_text('parsed.fields', 'age') }} as age,
        {{ json_text('parsed.fields', 'department') }} as department,
        {{ json_text('parsed.fields', 'salary') }} as salary,
        {{ json_text('parsed.fields', 'joinDate') }} as join_date,
        {{ json_text('parsed.fields', 'isActive') }} as is_active,
        {{ json_document('parsed.fields', 'metadata') }} as metadata,
        {{ json_text('parsed.fields', 'updatedAt') }} as updated_at,
        parsed._source as source,
        parsed._location as location,
        parsed._content_hash as content_hash,
        -- numerics
        4 as source_priority,
        parsed._line as line,
        -- timestamps
        parsed._loaded_at as loaded_at
    from parsed
)

select * from renamed
