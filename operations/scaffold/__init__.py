"""`penstock new`: a source that is looked at once becomes an entry, models, suites and tests."""
