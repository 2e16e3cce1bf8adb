"""Rows: one module and one `.sql` file per table family."""
