"""HTTP APIs: requests with credentials, limits and retries; walks over pages; pages into parcels."""
