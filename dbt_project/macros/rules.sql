{#- The rules that a record breaks as one text, 'age_missing,name_length', or null for none: no engine lacks texts. -#}
{% macro joined_rules(rules) -%}
    nullif(concat_ws(',', {{ rules | join(", ") }}), '')
{%- endmacro %}


{#- The same rules as an array of texts, as readers get them. -#}
{% macro rules_array(joined) -%}
    {{ return(adapter.dispatch("rules_array", "penstock")(joined)) }}
{%- endmacro %}

{% macro duckdb__rules_array(joined) -%} string_split({{ joined }}, ',') {%- endmacro %}
{% macro postgres__rules_array(joined) -%} string_to_array({{ joined }}, ',') {%- endmacro %}
{% macro spark__rules_array(joined) -%} split({{ joined }}, ',') {%- endmacro %}


{#- One row per element of an array; for a select list. -#}
{% macro array_elements(array) -%}
    {{ return(adapter.dispatch("array_elements", "penstock")(array)) }}
{%- endmacro %}

{% macro default__array_elements(array) -%} unnest({{ array }}) {%- endmacro %}
{% macro spark__array_elements(array) -%} explode({{ array }}) {%- endmacro %}


{#- The numbers of these rows, from 1; for the same select list. -#}
{% macro array_places(array) -%}
    {{ return(adapter.dispatch("array_places", "penstock")(array)) }}
{%- endmacro %}

{% macro default__array_places(array) -%} generate_subscripts({{ array }}, 1) {%- endmacro %}
