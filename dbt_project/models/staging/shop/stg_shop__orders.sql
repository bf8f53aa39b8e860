with source as (
    {{ landed_records(source('raw', 'shop__orders')) }}
),

renamed as (
    select
        -- ids
        source.id as order_id,
        source.customer as customer_id,
        source.store_id,
        source._load_id as load_id,
        source._run_id as run_id,
        -- text
        source.ordered_at,
        source.subtotal as subtotal_cents,
        source.tax_paid as tax_cents,
        source.order_total as order_total_cents,
        source._source as source,
        source._location as location,
        source._content_hash as content_hash,
        -- numerics
        source._line as line,
        -- timestamps
        source._loaded_at as loaded_at
    from source
)

select * from renamed
