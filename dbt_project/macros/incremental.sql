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


{#- A condition for a staging model: its load is one that this model has not seen under these rules. -#}
{% macro is_unseen(records, source, rules_version) -%}
    {%- if is_incremental() -%}
        {{ records }}.load_id in (
            select loads.load_id
            from {{ ref("stg_ingestion__loads") }} as loads
            left join (
                select distinct this_model.load_id
                from {{ this }} as this_model
                where this_model.rules_version = '{{ rules_version }}'
            ) as seen on loads.load_id = seen.load_id
            where loads.source = '{{ source }}' and loads.is_complete and seen.load_id is null
        )
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}


{#-
    CTEs from `judged`, the new records with their failed_rules, to `versions`, every version of every key that they
    touch, with its outcome. Of the newest valid version of a current file the outcome is accepted: later loads first,
    then later files, then later lines. A repeat of a record (same content hash and line) goes. `columns` are all
    columns of judged, `key` the one that versions share.
-#}
{% macro settled_versions(key, columns, rules_version) -%}
    loads as (
        select * from {{ ref("stg_ingestion__loads") }}
    ),

    {% if is_incremental() -%}
    -- a file that was replaced takes its records with it
    loads_overtaken as (
        select seen.load_id
        from (select distinct this_model.load_id, this_model.is_current from {{ this }} as this_model) as seen
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

    all_versions as (
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

    versions as (
        select
            all_versions.*,
            case
                when all_versions.failed_rules is not null then 'rejected'
                when all_versions.version_number = 1 and all_versions.is_current then 'accepted'
                else 'duplicate'
            end as outcome,
            {{ build_time() }} as changed_at
        from all_versions
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


{#- When this build began: what it writes is newer than all that was written before, even if the clock was set back. -#}
{% macro build_time() -%}
    {%- set now = "cast('" ~ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") ~ "+00' as " ~ instant_type() ~ ")" -%}
    {%- if is_incremental() -%}
        greatest(
            {{ now }},
            (select max(this_model.changed_at) + interval '1 second' from {{ this }} as this_model)
        )
    {%- else -%}
        {{ now }}
    {%- endif -%}
{%- endmacro %}


{#- A condition for a model below: this row was changed after all that this model has seen of it. -#}
{% macro is_changed(rows) -%}
    {{ rows }}.changed_at > (
        select coalesce(max(this_model.changed_at), cast('0001-01-01 00:00:00+00' as {{ instant_type() }}))
        from {{ this }} as this_model
    )
{%- endmacro %}


{#- The groups of this model that are older than the whole table they come from, which was built anew since. -#}
{% macro outdated_groups(key, rows) -%}
    select this_model.{{ key }}
    from {{ this }} as this_model
    where this_model.changed_at < (select min(upstream.changed_at) from {{ rows }} as upstream)
{%- endmacro %}


{#- A test's `where` may say __this__ for the relation under test: dbt's own macro with that one addition. -#}
{% macro get_where_subquery(relation) -%}
    {%- set where = (config.get("where") or "") | replace("__this__", relation | string) -%}
    {%- if where -%}
        {%- do return("(select * from " ~ relation ~ " where " ~ where ~ ") dbt_subquery") -%}
    {%- else -%}
        {%- do return(relation) -%}
    {%- endif -%}
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
