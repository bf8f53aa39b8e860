{#- A table: what lies in lists is unnested and parsed once, for five children and the rules. -#}
{{ config(materialized='table') }}

{%- set kinds = {
    'publisher': 'publishers', 'maintainer': 'maintainers', 'licence': 'licences', 'keyword': 'keywords',
    'resource': 'resources',
} %}

with normalised as (
    select * from {{ ref('int_catalogue__normalised') }}
),

lists as (
    {%- for kind, column in kinds.items() %}
    select
        normalised.record_id,
        '{{ kind }}' as kind,
        {{ json_elements('normalised.' ~ column) }} as elements
    from normalised
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

computed as (
    select lists.*
    from lists
    {{ computed_once() }}
),

unnested as (
    select
        computed.record_id,
        computed.kind,
        {{ array_elements('computed.elements') }} as element,
        {{ array_places('computed.elements') }} as place
    from computed
),

final as (
    select
        -- ids
        unnested.record_id,
        -- text
        cast(unnested.kind as {{ text_type() }}) as kind,
        unnested.element,
        {{ json_shape('unnested.element') }} as shape,
        {{ tidied(json_scalar('unnested.element'), 'true') }} as text_value,
        -- numerics
        cast(unnested.place as bigint) as place
    from unnested
)

select * from final
