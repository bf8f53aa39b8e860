{#- Passes when columns add up to the same in both models; gives each that does not, with both sums. -#}
{% test same_sums(model, to, columns) %}

with here as (
    select {% for column in columns %}coalesce(sum(mart.{{ column }}), 0) as {{ column }}{{ ", " if not loop.last }}{% endfor %}
    from {{ model }} as mart
),

there as (
    select {% for column in columns %}coalesce(sum(mart.{{ column }}), 0) as {{ column }}{{ ", " if not loop.last }}{% endfor %}
    from {{ to }} as mart
)

{% for column in columns %}
select '{{ column }}' as of_column, here.{{ column }} as sum_here, there.{{ column }} as sum_there
from here
cross join there
where here.{{ column }} <> there.{{ column }}
{{ "union all" if not loop.last }}
{% endfor %}

{% endtest %}
