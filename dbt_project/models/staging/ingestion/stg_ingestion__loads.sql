with source as (
    select
        loads.*,
        -- a crash can write the row of a load twice
        row_number() over (partition by loads.load_id order by loads.loaded_at desc, loads._dlt_load_id desc)
            as repeat_number
    from {{ raw_table(source('raw', 'loads')) }} as loads
),

finished_packages as (
    select distinct packages.load_id
    from {{ raw_table(source('raw', '_dlt_loads')) }} as packages
    where packages.status = 0
),

renamed as (
    select
        -- ids
        source.load_id,
        source.run_id,
        -- text
        source.source,
        source.kind,
        source.location,
        source.content_hash,
        -- numerics
        source.records_read as count_read,
        source.records_loaded as count_loaded,
        source.records_dead_lettered as count_dead_lettered,
        source.records_skipped as count_skipped,
        -- booleans
        finished_packages.load_id is not null as is_complete,
        -- timestamps
        source.loaded_at
    from source
    left join finished_packages on source._dlt_load_id = finished_packages.load_id
    where source.repeat_number = 1
)

select * from renamed
