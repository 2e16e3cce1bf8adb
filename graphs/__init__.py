"""Workflows and agents that come with Interlock."""
