"""Parquet files: row groups as text, a bounded stretch of rows a parcel."""
