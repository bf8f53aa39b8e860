"""How fast Penstock is, and beside what: benchmarks against other ways to do the same, and a load test."""

SEED = 2026  # of all that is generated
