{%- set sections = ['Publications', 'Tools & Applications', 'Tutorials'] -%}

with normalised as (
    select * from {{ ref('int_catalogue__normalised') }}
),

listed as (
    select * from {{ ref('int_catalogue__values') }}
),

sections as (
    select
        normalised.record_id,
        {{ json_parsed(
            "case when " ~ json_shape('normalised.data_at_work') ~ " = 'object' then normalised.data_at_work end",
            texts=[],
            documents=sections
        ) }} as fields
    from normalised
    where normalised.data_at_work is not null
    {{ computed_once() }}
),

works as (
    {%- for section in sections %}
    select
        sections.record_id,
        {{ array_elements(json_elements(json_document('sections.fields', section))) }} as element
    from sections
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

parsed_works as (
    select
        works.record_id,
        {{ json_parsed('works.element', texts=['AuthorName', 'AuthorURL'], documents=[]) }} as fields
    from works
    where {{ json_shape('works.element') }} = 'object'
    {{ computed_once() }}
),

authors as (
    select
        parsed_works.record_id,
        {{ tidied(json_text('parsed_works.fields', 'AuthorName'), 'true') }} as name,
        min({{ tidied(json_text('parsed_works.fields', 'AuthorURL'), 'true') }}) as url
    from parsed_works
    group by parsed_works.record_id, {{ tidied(json_text('parsed_works.fields', 'AuthorName'), 'true') }}
),

named as (
    select
        listed.record_id,
        listed.kind as role,
        {{ without_links('listed.text_value') }} as name,
        {{ web_address('listed.text_value') }} as url,
        listed.place
    from listed
    where listed.kind in ('publisher', 'maintainer') and listed.text_value is not null
    union all
    select
        authors.record_id,
        'author' as role,
        authors.name,
        authors.url,
        row_number() over (partition by authors.record_id order by authors.name) as place
    from authors
    where authors.name is not null
),

final as (
    select
        -- ids
        named.record_id,
        -- text
        named.role,
        named.name,
        named.url,
        case when {{ is_email('named.name') }} then lower(named.name) end as email,
        -- numerics
        named.place
    from named
)

select * from final
