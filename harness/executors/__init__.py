"""Where a run executes: one file and one table line each."""
