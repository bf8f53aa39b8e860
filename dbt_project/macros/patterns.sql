{#-
    Regular expressions, spelt so that engines read them alike: no backslash (SQL dialects differ in escaping it),
    characters beyond ASCII written out, classes such as [:cntrl:] only where nothing else will do (Java lacks them).
-#}

{#- Whether any part of the text matches. -#}
{% macro matches(text, pattern) -%}
    {{ return(adapter.dispatch("matches", "penstock")(text, dbt.string_literal(dbt.escape_single_quotes(pattern)))) }}
{%- endmacro %}

{% macro duckdb__matches(text, pattern) -%} regexp_matches({{ text }}, {{ pattern }}) {%- endmacro %}
{% macro postgres__matches(text, pattern) -%} {{ text }} ~ {{ pattern }} {%- endmacro %}
{% macro spark__matches(text, pattern) -%} {{ text }} rlike {{ pattern }} {%- endmacro %}


{#- The part of the text that a group of the pattern matched. Only for texts that match. -#}
{% macro captured(text, pattern, group) -%}
    {{ return(adapter.dispatch("captured", "penstock")(
        text, dbt.string_literal(dbt.escape_single_quotes(pattern)), group)) }}
{%- endmacro %}

{% macro duckdb__captured(text, pattern, group) -%}
    regexp_extract({{ text }}, {{ pattern }}, {{ group }})
{%- endmacro %}
{% macro postgres__captured(text, pattern, group) -%}
    (regexp_match({{ text }}, {{ pattern }}))[{{ group }}]
{%- endmacro %}
{% macro spark__captured(text, pattern, group) -%}
    regexp_extract({{ text }}, {{ pattern }}, {{ group }})
{%- endmacro %}


{#- The text with every match replaced. -#}
{% macro replaced(text, pattern, replacement) -%}
    {{ return(adapter.dispatch("replaced", "penstock")(
        text, dbt.string_literal(dbt.escape_single_quotes(pattern)), dbt.string_literal(replacement))) }}
{%- endmacro %}

{% macro duckdb__replaced(text, pattern, replacement) -%}
    regexp_replace({{ text }}, {{ pattern }}, {{ replacement }}, 'g')
{%- endmacro %}
{% macro postgres__replaced(text, pattern, replacement) -%}
    regexp_replace({{ text }}, {{ pattern }}, {{ replacement }}, 'g')
{%- endmacro %}
{% macro spark__replaced(text, pattern, replacement) -%}
    regexp_replace({{ text }}, {{ pattern }}, {{ replacement }})
{%- endmacro %}
