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
versioned as (
    select
        source.load_id,
        source.source,
        source.location,
        source.content_hash,
        source.start_bytes,
        sum(case when source.start_bytes = 0 then 1 else 0 end) over (
            partition by source.source, source.location
            order by source.loaded_at asc, source.start_bytes asc, source.load_id asc
            rows between unbounded preceding and current row
        ) as version_number
    from source
    inner join finished_packages on source._dlt_load_id = finished_packages.load_id
    where source.repeat_number = 1 and source.kind not in ('api', 'replay')
),

newest_versions as (
    select
        versioned.source,
        versioned.location,
        max(versioned.version_number) as version_number
    from versioned
    group by versioned.source, versioned.location
),

-- what the files hold now; a copy, or a file under a new name, loads nothing and names the content that is there
held as (
    select distinct
        versioned.source,
        versioned.content_hash
    from versioned
    inner join newest_versions
        on
            versioned.source = newest_versions.source
            and versioned.location = newest_versions.location
            and versioned.version_number = newest_versions.version_number
),

-- how far a version is held by any file, by the loads that it was read in
held_versions as (
    select
        versioned.source,
        versioned.location,
        versioned.version_number,
        max(versioned.start_bytes) as start_bytes
    from versioned
    inner join held on versioned.source = held.source and versioned.content_hash = held.content_hash
    group by versioned.source, versioned.location, versioned.version_number
),

overtaken as (
    select versioned.load_id
    from versioned
    left join held_versions
        on
            versioned.source = held_versions.source
            and versioned.location = held_versions.location
            and versioned.version_number = held_versions.version_number
    where held_versions.start_bytes is null or versioned.start_bytes > held_versions.start_bytes
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
        source.start_bytes,
        source.records_read as count_read,
        source.records_loaded as count_loaded,
        source.records_dead_lettered as count_dead_lettered,
        source.records_skipped as count_skipped,
        -- booleans
        finished_packages.load_id is not null as is_complete,
        overtaken.load_id is null as is_current,
        -- timestamps
        source.loaded_at
    from source
    left join finished_packages on source._dlt_load_id = finished_packages.load_id
    left join overtaken on source.load_id = overtaken.load_id
    where source.repeat_number = 1
)

select * from renamed
