"""The event log as the protocols show it."""
