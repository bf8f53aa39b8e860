-- The books of a run balance only if no record is lost or counted twice between staging and its outcome.
with details as (
    select * from {{ ref('stg_registry__dataset_details') }}
),

listed as (
    select * from {{ ref('stg_registry__datasets') }}
),

outcomes as (
    select * from {{ ref('outcomes_catalogue') }}
),

counts as (
    select
        (select count(*) from details) + (select count(*) from listed) as count_records,
        (select count(*) from outcomes) as count_outcomes
)

select *
from counts
where count_records <> count_outcomes
