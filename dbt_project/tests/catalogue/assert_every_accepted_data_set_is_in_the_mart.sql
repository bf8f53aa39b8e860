-- The books count the records, not the rows of the mart: that none was lost in a join is proven here.
with accepted as (
    select * from {{ ref('int_catalogue__deduplicated') }}
    where outcome = 'accepted' and record_id is not null
),

datasets as (
    select * from {{ ref('datasets') }}
)

select
    accepted.slug as accepted_slug,
    datasets.slug as published_slug
from accepted
full outer join datasets on accepted.slug = datasets.slug
where accepted.slug is null or datasets.slug is null
