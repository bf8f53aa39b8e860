"""CSV files: dialect and encoding found out, chunks framed, parsed, proven and salvaged."""
