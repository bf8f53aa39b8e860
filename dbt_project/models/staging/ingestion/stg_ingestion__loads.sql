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

-- a load from the start of a file begins a new version of it, which takes the place of the one before
version_starts as (
    select
        source.source,
        source.location,
        max(source.loaded_at) as loaded_at
    from source
    inner join finished_packages on source._dlt_load_id = finished_packages.load_id
    where source.start_bytes = 0 and source.kind not in ('api', 'replay')
    group by source.source, source.location
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
        coalesce(source.loaded_at >= version_starts.loaded_at, true) as is_current,
        -- timestamps
        source.loaded_at
    from source
    left join finished_packages on source._dlt_load_id = finished_packages.load_id
    left join version_starts
        on source.source = version_starts.source and source.location = version_starts.location
    where source.repeat_number = 1
)

select * from renamed
