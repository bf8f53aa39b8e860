"""On top of the stages: the command line, the order of a run, the ledger, and what listens to events."""
