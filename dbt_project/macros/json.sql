{#-
    A record's JSON text, parsed once for all the fields that are asked for. Null when it is no JSON object that the
    engine can read.
-#}
{% macro json_parsed(record, texts, documents) -%}
    {{ return(adapter.dispatch("json_parsed", "penstock")(record, texts, documents)) }}
{%- endmacro %}

{#- try(): one record that cannot be parsed (half a surrogate pair, say) must not stop the build. -#}
{% macro duckdb__json_parsed(record, texts, documents) -%}
    {%- set types = {} -%}
    {%- for name in texts %}{% do types.update({name: "VARCHAR"}) %}{% endfor -%}
    {%- for name in documents %}{% do types.update({name: "JSON"}) %}{% endfor -%}
    try(json_transform({{ record }}, '{{ tojson(types) }}'))
{%- endmacro %}

{#- jsonb sorts the keys of an object; documents come from the text itself, without the white space between tokens. -#}
{% macro postgres__json_parsed(record, texts, documents) -%}
    case
        when pg_input_is_valid({{ record }}, 'jsonb') then
            cast({{ record }} as jsonb)
            {%- for name in documents %}
            || jsonb_build_object('{{ name }}', regexp_replace(
                cast(cast({{ record }} as json) -> '{{ name }}' as text), '("([^"\\]|\\.)*")|[[:space:]]+', '\1', 'g'
            ))
            {%- endfor %}
    end
{%- endmacro %}


{#- A field as text: a string without its quotes, a number or boolean as written, null when missing or null. -#}
{% macro json_text(parsed, name) -%}
    {{ return(adapter.dispatch("json_text", "penstock")(parsed, name)) }}
{%- endmacro %}

{% macro duckdb__json_text(parsed, name) -%} {{ parsed }}."{{ name }}" {%- endmacro %}
{% macro postgres__json_text(parsed, name) -%} ({{ parsed }} ->> '{{ name }}') {%- endmacro %}


{#- A field as JSON text: a string keeps its quotes and so cannot pass for an object. Null when missing or null. -#}
{% macro json_document(parsed, name) -%}
    {{ return(adapter.dispatch("json_document", "penstock")(parsed, name)) }}
{%- endmacro %}

{% macro duckdb__json_document(parsed, name) -%}
    cast({{ parsed }}."{{ name }}" as {{ dbt.type_string() }})
{%- endmacro %}
{% macro postgres__json_document(parsed, name) -%}
    nullif({{ parsed }} ->> '{{ name }}', 'null')
{%- endmacro %}


{#- What a JSON text is: object, other (an array, string, number, boolean) or unreadable; null for none. -#}
{% macro json_kind(text) -%}
    {{ return(adapter.dispatch("json_kind", "penstock")(text)) }}
{%- endmacro %}

{#-
    DuckDB reads more than JSON allows (NaN, Infinity, a comma before the closing bracket) or than a jsonb column can
    hold (\u0000, exponents of four digits). Those are looked for outside strings, and only where they may be.
-#}
{% macro duckdb__json_kind(text) -%}
    case
        when {{ text }} is null then null
        when not json_valid({{ text }}) then 'unreadable'
        when
            regexp_matches({{ text }}, '(?i)nan|inf|,\s*[}\]]|\\u0000|e[+-]?[0-9]{4}')
            and (
                regexp_matches({{ text }}, '(?:^|[^\\])(?:\\\\)*\\u0000')
                or regexp_matches(
                    regexp_replace({{ text }}, '"(?:[^"\\]|\\.)*"', '""', 'g'),
                    '(?i)nan|inf|,\s*[}\]]|e[+-]?[0-9]{4}'
                )
            )
            then 'unreadable'
        when json_type({{ text }}) = 'OBJECT' then 'object'
        else 'other'
    end
{%- endmacro %}

{% macro postgres__json_kind(text) -%}
    case
        when {{ text }} is null then null
        when not pg_input_is_valid({{ text }}, 'jsonb') then 'unreadable'
        when jsonb_typeof(cast({{ text }} as jsonb)) = 'object' then 'object'
        else 'other'
    end
{%- endmacro %}


{#- What a JSON document is: object, array, text, or other (a number, boolean or null); null for none. -#}
{% macro json_shape(document) -%}
    {{ return(adapter.dispatch("json_shape", "penstock")(document)) }}
{%- endmacro %}

{% macro duckdb__json_shape(document) -%}
    case json_type({{ document }})
        when 'OBJECT' then 'object'
        when 'ARRAY' then 'array'
        when 'VARCHAR' then 'text'
        else case when {{ document }} is not null then 'other' end
    end
{%- endmacro %}

{% macro postgres__json_shape(document) -%}
    case json_typeof(cast({{ document }} as json))
        when 'object' then 'object'
        when 'array' then 'array'
        when 'string' then 'text'
        else case when {{ document }} is not null then 'other' end
    end
{%- endmacro %}


{#-
    The elements of a JSON array as an array of JSON texts; any other document is an array of itself, and none is an
    empty one: sources write one value where a list has one.
-#}
{% macro json_elements(document) -%}
    {{ return(adapter.dispatch("json_elements", "penstock")(document)) }}
{%- endmacro %}

{% macro duckdb__json_elements(document) -%}
    case
        when {{ document }} is null then cast([] as varchar[])
        when json_type({{ document }}) = 'ARRAY' then cast(json_extract({{ document }}, '$[*]') as varchar[])
        else [{{ document }}]
    end
{%- endmacro %}

{% macro postgres__json_elements(document) -%}
    case
        when {{ document }} is null then cast(array[] as text[])
        when json_typeof(cast({{ document }} as json)) = 'array' then array(
            select cast(listed.element as text)
            from json_array_elements(cast({{ document }} as json)) with ordinality as listed (element, place)
            order by listed.place
        )
        else array[{{ document }}]
    end
{%- endmacro %}


{#- A JSON string without its quotes, a number or boolean as text; null for an array, an object, null and none. -#}
{% macro json_scalar(document) -%}
    {{ return(adapter.dispatch("json_scalar", "penstock")(document)) }}
{%- endmacro %}

{% macro duckdb__json_scalar(document) -%}
    case
        when json_type({{ document }}) not in ('OBJECT', 'ARRAY', 'NULL')
            then json_extract_string({{ document }}, '$')
    end
{%- endmacro %}

{% macro postgres__json_scalar(document) -%}
    case
        when json_typeof(cast({{ document }} as json)) not in ('object', 'array', 'null')
            then cast({{ document }} as json) #>> '{}'
    end
{%- endmacro %}
