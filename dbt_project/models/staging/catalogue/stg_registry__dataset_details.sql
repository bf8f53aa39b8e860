with source as (
    {{ complete_records(source('raw', 'registry__dataset_details')) }}
),

-- what one engine reads and another refuses is read by none
readable as (
    select
        source.*,
        case when {{ json_kind('source.record') }} = 'object' then source.record end as readable_record
    from source
),

parsed as (
    select
        readable.*,
        {{ json_parsed(
            'readable.readable_record',
            texts=[
                'slug', 'Name', 'Description', 'Documentation', 'UpdateFrequency', 'Citation', 'Deprecated',
                'DeprecatedNotice',
            ],
            documents=['ManagedBy', 'Contact', 'License', 'Tags', 'Resources', 'DataAtWork']
        ) }} as fields
    from readable
    {{ computed_once() }}
),

renamed as (
    select
        -- ids
        {{ json_text('parsed.fields', 'slug') }} as slug,
        parsed._load_id as load_id,
        parsed._run_id as run_id,
        -- text
        {{ json_text('parsed.fields', 'Name') }} as name,
        {{ json_text('parsed.fields', 'Description') }} as description,
        {{ json_text('parsed.fields', 'Documentation') }} as documentation,
        {{ json_text('parsed.fields', 'UpdateFrequency') }} as update_frequency,
        {{ json_text('parsed.fields', 'Citation') }} as citation,
        {{ json_text('parsed.fields', 'Deprecated') }} as deprecated,
        {{ json_text('parsed.fields', 'DeprecatedNotice') }} as deprecated_notice,
        {{ json_document('parsed.fields', 'ManagedBy') }} as publishers,
        {{ json_document('parsed.fields', 'Contact') }} as maintainers,
        {{ json_document('parsed.fields', 'License') }} as licences,
        {{ json_document('parsed.fields', 'Tags') }} as keywords,
        {{ json_document('parsed.fields', 'Resources') }} as resources,
        {{ json_document('parsed.fields', 'DataAtWork') }} as data_at_work,
        parsed._source as source,
        parsed._location as location,
        parsed._content_hash as content_hash,
        -- numerics
        parsed._line as line,
        -- booleans
        parsed.readable_record is not null and parsed.fields is not null as is_readable,
        -- timestamps
        parsed._loaded_at as loaded_at
    from parsed
)

select * from renamed
