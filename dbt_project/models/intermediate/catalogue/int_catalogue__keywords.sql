with listed as (
    select * from {{ ref('int_catalogue__values') }}
),

-- in lower case, so that RNA-seq and rna-seq are one
final as (
    select distinct
        -- ids
        listed.record_id,
        -- text
        lower(listed.text_value) as keyword
    from listed
    where listed.kind = 'keyword' and listed.text_value is not null
)

select * from final
