"""Claims runs and drives their graphs."""
