{#-
    Ends a query whose columns are dear to compute and read more than once. Postgres would put the expression of such a
    column wherever it is read, and compute it there again; DuckDB does not.
-#}
{% macro computed_once() -%} {{ return(adapter.dispatch("computed_once", "penstock")()) }} {%- endmacro %}

{% macro default__computed_once() -%} {%- endmacro %}
{% macro postgres__computed_once() -%} offset 0 {%- endmacro %}
