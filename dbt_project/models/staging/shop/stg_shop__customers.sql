with source as (
    {{ landed_records(source('raw', 'shop__customers')) }}
),

renamed as (
    select
        -- ids
        source.id as customer_id,
        source._load_id as load_id,
        source._run_id as run_id,
        -- text
        source.name as customer_name,
        source._source as source,
        source._location as location,
        source._content_hash as content_hash,
        -- numerics
        source._line as line,
        -- timestamps
        source._loaded_at as loaded_at
    from source
)

select * from renamed
