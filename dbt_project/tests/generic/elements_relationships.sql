{#- Passes when every element of an array column is a value of the other table's field: relationships, for arrays. -#}
{% test elements_relationships(model, column_name, to, field) %}

with elements as (
    select {{ array_elements(column_name) }} as element
    from {{ model }}
)

select distinct elements.element
from elements
left join {{ to }} as known on elements.element = known.{{ field }}
where known.{{ field }} is null

{% endtest %}
