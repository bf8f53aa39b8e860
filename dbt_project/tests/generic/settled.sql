{#-
    Passes when the rows of an incremental fact, as settled_versions makes them, are each record once with its place, have
    at most one accepted version of a key, and a known outcome. Of a fact that is long, only rows that its first reader has
    not seen are looked at: a build goes on to the reader only when they pass, so that no failure is forgotten by the next
    build. `read_by` is that model, by name, as a reference would put the test behind it; `read_until` its column with the
    changed_at that it has seen. Outside of `dbt build` all rows are looked at.
-#}
{% test settled(model, key, read_by=none, read_until="changed_at") %}

{%- set reader = none %}
{%- if read_by and flags.WHICH == "build" %}
    {%- set reader = load_relation(model.incorporate(path={"identifier": read_by})) %}
{%- endif %}

with written as (
    select fact.{{ key }} as fact_key, fact.content_hash, fact.line, fact.outcome
    from {{ model }} as fact
    {%- if reader is not none %}
    where fact.changed_at > (
        select coalesce(max(reader.{{ read_until }}), cast('0001-01-01 00:00:00+00' as {{ instant_type() }}))
        from {{ reader }} as reader
    )
    {%- endif %}
)

select 'a record twice, or without its place' as problem, written.content_hash as found, count(*) as count_rows
from written
group by written.content_hash, written.line
having count(*) > 1 or written.content_hash is null or written.line is null
union all
select 'two accepted versions' as problem, written.fact_key as found, count(*) as count_rows
from written
where written.outcome = 'accepted'
group by written.fact_key
having count(*) > 1
union all
select 'no such outcome' as problem, written.outcome as found, count(*) as count_rows
from written
where written.outcome is null or written.outcome not in ('accepted', 'duplicate', 'rejected')
group by written.outcome

{% endtest %}
