"""The gate: Great Expectations suites that judge raw and the candidate marts before anything is published."""
