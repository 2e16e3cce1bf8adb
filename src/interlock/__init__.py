"""Interlock: a durable, governed server for LangGraph graphs."""

from importlib.metadata import version

__version__ = version("interlock")
