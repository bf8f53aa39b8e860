"""How each kind of source is read. A reader turns files or pages into parcels and knows nothing of dlt."""
