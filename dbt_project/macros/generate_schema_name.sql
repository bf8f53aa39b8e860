{#- The schema a model asks for is the schema it gets; dbt's own rule would prefix it with the target's. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
