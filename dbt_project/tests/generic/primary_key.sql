{#- Passes when the columns are never null and no two rows agree in all of them: not_null and unique in one query. -#}
{% test primary_key(model, columns) %}

select
    {{ columns | join(", ") }},
    count(*) as count_rows
from {{ model }}
group by {{ columns | join(", ") }}
having count(*) > 1 or {{ columns | join(" is null or ") }} is null

{% endtest %}
