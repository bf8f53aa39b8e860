"""JSON files: lines or documents framed, judged and taken apart into records."""
