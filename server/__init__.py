"""Accepts, queues, executes, records and streams runs."""
