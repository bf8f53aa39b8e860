{#-
    The newest version of a record first: by its own time of update where it has one, then by load, then by source.
    What follows only makes the order complete, so that every build decides alike.
-#}
{% macro newest_version_first(record) -%}
    {{ record }}.updated_at desc nulls last,
    {{ record }}.loaded_at desc,
    {{ record }}.source_priority asc,
    {{ record }}.location desc,
    {{ record }}.line desc,
    {{ record }}.content_hash desc
{%- endmacro %}


{#- Among claims to an e-mail address that are equally old: by source; the rest makes the order complete. -#}
{% macro first_place_first(record) -%}
    {{ record }}.source_priority asc,
    {{ record }}.location asc,
    {{ record }}.line asc,
    {{ record }}.id asc
{%- endmacro %}
