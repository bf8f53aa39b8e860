-- The books of a run balance only if no record is lost or counted twice between staging and its outcome.
with unioned as (
    select * from {{ ref('int_employees__unioned') }}
),

outcomes as (
    select * from {{ ref('outcomes_employees') }}
),

counts as (
    select
        (select count(*) from unioned) as count_records,
        (select count(*) from outcomes) as count_outcomes
)

select *
from counts
where count_records <> count_outcomes
