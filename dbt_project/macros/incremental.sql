{#-
    What incremental models share. Which loads a model has not seen is told by the loads that its own rows name, and
    which groups an aggregate has to compute again by the time at which rows were last changed. Both lie in the rows, so
    they are committed with them, and a build that was cut off leaves nothing out.
-#}

{#-
    The records of a raw table that belong to complete loads, each as often as raw holds it, for a staging model under an
    incremental one: unlike complete_records it never looks beyond the loads that are asked for.
    The incremental model leaves the repeats out, see settled_versions.
-#}
{% macro landed_records(relation) -%}
    select
        loads.source as _source,
        loads.run_id as _run_id,
        records.*
    from {{ raw_table(relation) }} as records
    inner join {{ ref("stg_ingestion__loads") }} as loads on records._load_id = loads.load_id
    where loads.is_complete
{%- endmacro %}


{#-
    The first CTEs of such a model: `loads`, and of an incremental build `seen`, the loads that its rows name, and
    `unseen`, those that it has not seen under these rules. A load of which another repeated all that it brought is named
    by no row: it has been seen with the later one.
-#}
{% macro loads_seen(source, rules_version) -%}
    loads as (
        select * from {{ ref("stg_ingestion__loads") }}
    ),

    {% if is_incremental() -%}
    seen as (
        select
            this_model.load_id,
            this_model.rules_version,
            this_model.is_current,
            max(this_model.changed_at) as changed_at
        from {{ this }} as this_model
        group by this_model.load_id, this_model.rules_version, this_model.is_current
    ),

    seen_loads as (
        select
            loads.*,
            row_number() over (
                partition by loads.source, loads.content_hash, loads.start_bytes, loads.count_loaded
                order by loads.loaded_at desc, loads.load_id desc
            ) as place
        from loads
        where
            loads.load_id in (
                select seen.load_id
                from seen
                where seen.rules_version = '{{ rules_version }}'
            )
    ),

    unseen as (
        select loads.load_id
        from loads
        left join seen_loads on loads.load_id = seen_loads.load_id
        left join seen_loads as repeated
            on
                loads.source = repeated.source
                and loads.content_hash = repeated.content_hash
                and loads.start_bytes = repeated.start_bytes
                and loads.count_loaded = repeated.count_loaded
                and repeated.place = 1
        where
            loads.source = '{{ source }}'
            and loads.is_complete
            and seen_loads.load_id is null
            and (
                repeated.load_id is null
                or loads.loaded_at > repeated.loaded_at
                or (loads.loaded_at = repeated.loaded_at and loads.load_id > repeated.load_id)
            )
    ),
    {%- endif %}
{%- endmacro %}


{#- A condition for a staging model: its load is one that this model has not seen. -#}
{% macro is_unseen(records) -%}
    {%- if is_incremental() -%}
        {{ records }}.load_id in (select unseen.load_id from unseen)
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}


{#-
    CTEs from `judged`, the new records with their failed_rules, to `final`, every version of every key that they
    touch, with its outcome. Of the newest valid version of a current file the outcome is accepted: later loads first,
    then later files, then later lines. A repeat of a record (same content hash and line) goes. `own` are the columns of
    judged that are this model's own, `key` the one of them that versions share; what tells where a record came from, and
    what was judged, stands after them.
-#}
{% macro settled_versions(key, own, rules_version) -%}
    {%- set columns = own + [
        "load_id", "run_id", "failed_rules", "record", "source", "location", "content_hash", "rules_version", "line",
        "loaded_at",
    ] -%}
    {% if is_incremental() -%}
    -- a file that was replaced takes its records with it
    loads_overtaken as (
        select seen.load_id
        from seen
        inner join loads on seen.load_id = loads.load_id
        where seen.is_current <> loads.is_current
    ),

    touched as (
        select judged.{{ key }} from judged
        union
        select this_model.{{ key }}
        from {{ this }} as this_model
        inner join loads_overtaken on this_model.load_id = loads_overtaken.load_id
    ),

    candidates as (
        select judged.{{ columns | join(", judged.") }}
        from judged
        union all
        select this_model.{{ columns | join(", this_model.") }}
        from {{ this }} as this_model
        where
            this_model.{{ key }} in ({{ the_few('touched', key) }})
            -- what other rules judged is among the new ones once more
            and this_model.rules_version = '{{ rules_version }}'
    ),
    {%- else -%}
    candidates as (
        select * from judged
    ),
    {%- endif %}

    -- most keys have one version and need no window
    contested as (
        select candidates.{{ key }}
        from candidates
        group by candidates.{{ key }}
        having count(*) > 1
    ),

    repeats_numbered as (
        select
            candidates.*,
            loads.is_current,
            row_number() over (
                partition by candidates.content_hash, candidates.line
                order by candidates.loaded_at desc, candidates.load_id desc, candidates.location asc
            ) as repeat_number
        from candidates
        inner join contested on candidates.{{ key }} = contested.{{ key }}
        inner join loads on candidates.load_id = loads.load_id
    ),

    versions_numbered as (
        select
            repeats_numbered.*,
            row_number() over (
                partition by repeats_numbered.{{ key }}
                order by
                    case when repeats_numbered.failed_rules is null and repeats_numbered.is_current then 0 else 1 end,
                    repeats_numbered.loaded_at desc,
                    repeats_numbered.location desc,
                    repeats_numbered.line desc,
                    repeats_numbered.content_hash desc
            ) as version_number
        from repeats_numbered
        where repeats_numbered.repeat_number = 1
    ),

    versions as (
        select
            candidates.{{ columns | join(", candidates.") }},
            loads.is_current,
            1 as version_number
        from candidates
        inner join loads on candidates.load_id = loads.load_id
        left join contested on candidates.{{ key }} = contested.{{ key }}
        where contested.{{ key }} is null
        union all
        select
            versions_numbered.{{ columns | join(", versions_numbered.") }},
            versions_numbered.is_current,
            versions_numbered.version_number
        from versions_numbered
    ),

    final as (
        select
            versions.{{ columns | join(", versions.") }},
            versions.is_current,
            case
                when versions.failed_rules is not null then 'rejected'
                when versions.version_number = 1 and versions.is_current then 'accepted'
                else 'duplicate'
            end as outcome,
            {{ build_time('seen') }} as changed_at
        from versions
    )
{%- endmacro %}


{#-
    The values of a column, for the right side of `in`, where they are few beside the table that they are looked up in.
    They go through one array, which a planner takes for a single row: it guesses that what came out of several filters
    is large, and would hash the long table instead of them.
-#}
{% macro the_few(rows, column) -%}
    select {{ array_elements("array_agg(distinct " ~ rows ~ "." ~ column ~ ")") }} from {{ rows }}
{%- endmacro %}


{#-
    When this build began. It is newer than all that an earlier build wrote into `rows`, this model or what tells of it,
    even if the clock was set back since.
-#}
{% macro build_time(rows) -%}
    {%- set now = "cast('" ~ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") ~ "+00' as " ~ instant_type() ~ ")" -%}
    {%- if is_incremental() -%}
        greatest({{ now }}, (select max(written.changed_at) + interval '1 second' from {{ rows }} as written))
    {%- else -%}
        {{ now }}
    {%- endif -%}
{%- endmacro %}


{#-
    A condition for a model below: this row was changed after all that this model has seen of it. A model that reads
    several keeps a column for each, since their clocks may differ.
-#}
{% macro is_changed(rows, column="changed_at") -%}
    {{ rows }}.changed_at > (
        select coalesce(max(this_model.{{ column }}), cast('0001-01-01 00:00:00+00' as {{ instant_type() }}))
        from {{ this }} as this_model
    )
{%- endmacro %}


{#- The groups of this model that are older than the whole table they come from, which was built anew since. -#}
{% macro outdated_groups(key, rows, column="changed_at") -%}
    select this_model.{{ key }}
    from {{ this }} as this_model
    where this_model.{{ column }} < (select min(upstream.changed_at) from {{ rows }} as upstream)
{%- endmacro %}


{#- Indexes by which an engine of rows finds what a build touches. DuckDB scans columns faster than it keeps an index. -#}
{% macro lookup_indexes(columns) -%}
    {{ return(adapter.dispatch("lookup_indexes", "penstock")(columns)) }}
{%- endmacro %}

{% macro default__lookup_indexes(columns) -%} {{ return([]) }} {%- endmacro %}
{% macro postgres__lookup_indexes(columns) -%}
    {%- set indexes = [] -%}
    {%- for column in columns -%} {%- do indexes.append({"columns": [column]}) -%} {%- endfor -%}
    {{ return(indexes) }}
{%- endmacro %}
