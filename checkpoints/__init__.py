"""How Interlock talks to Postgres, and what survives a crash."""
