{#-
    A raw table, or an empty one with the columns that its YAML declares as long as ingestion has not made it.
    dbt never makes it: a `raw` schema that dlt did not make lets dlt believe that what its state says was loaded is
    there, and it would skip those files.
-#}
{% macro raw_table(relation) -%}
    {%- if execute and not relation.is_cte and load_relation(relation) is none -%}
        (
            select
            {%- for column in declared_columns(relation) %}
                cast(null as {{ column.data_type }}) as {{ column.name }}
                {%- if not loop.last %},{% endif %}
            {%- endfor %}
            limit 0
        )
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}


{% macro declared_columns(relation) %}
    {% set sources = graph.sources.values()
        | selectattr("schema", "equalto", relation.schema)
        | selectattr("identifier", "equalto", relation.identifier)
        | list %}
    {{ return(sources[0].columns.values() | list) }}
{% endmacro %}


{#-
    The records of a raw table that count: those of complete loads and, where a crash or a second copy of a file
    repeated a record (same content hash and line), only the latest. Every staging model of records starts here.
    `_source` and `_run_id` are those of the load, which raw holds once and not with every record.

    It is read often and the table is long, so it avoids a window or a grouping of the whole table: contents of which
    raw holds as many records as one load counted hold no repeats. Only the others are looked through by line. The key
    test of the staging model proves that this holds.
-#}
{% macro complete_records(relation) -%}
    {%- set records = raw_table(relation) -%}
    with complete_loads as (
        select
            loads.load_id,
            loads.run_id,
            loads.source,
            loads.content_hash,
            loads.count_loaded
        from {{ ref("stg_ingestion__loads") }} as loads
        where loads.is_complete
    ),

    booked_contents as (
        select
            complete_loads.source,
            complete_loads.content_hash,
            max(complete_loads.count_loaded) as count_loaded
        from complete_loads
        group by complete_loads.source, complete_loads.content_hash
    ),

    counted_contents as (
        select
            complete_loads.source,
            records._content_hash,
            count(*) as count_records
        from {{ records }} as records
        inner join complete_loads on records._load_id = complete_loads.load_id
        group by complete_loads.source, records._content_hash
    ),

    doubtful_contents as (
        select counted_contents._content_hash
        from counted_contents
        left join booked_contents
            on
                counted_contents.source = booked_contents.source
                and counted_contents._content_hash = booked_contents.content_hash
                and counted_contents.count_records = booked_contents.count_loaded
        where booked_contents.content_hash is null
    ),

    numbered_records as (
        select
            complete_loads.source as _source,
            complete_loads.run_id as _run_id,
            records.*,
            row_number() over (
                partition by records._content_hash, records._line
                order by records._loaded_at desc, records._load_id desc, records._location asc
            ) as _repeat_number
        from {{ records }} as records
        inner join complete_loads on records._load_id = complete_loads.load_id
        where records._content_hash in (select doubtful_contents._content_hash from doubtful_contents)
    )

    select
        complete_loads.source as _source,
        complete_loads.run_id as _run_id,
        records.*,
        1 as _repeat_number
    from {{ records }} as records
    inner join complete_loads on records._load_id = complete_loads.load_id
    left join doubtful_contents on records._content_hash = doubtful_contents._content_hash
    where doubtful_contents._content_hash is null
    union all
    select numbered_records.*
    from numbered_records
    where numbered_records._repeat_number = 1
{%- endmacro %}
