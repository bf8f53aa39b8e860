"""The candidate marts of the warehouse become Postgres tables, all in one transaction, and files."""
