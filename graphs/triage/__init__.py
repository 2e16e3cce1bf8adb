"""Sorts what customers write, acts on it, and has a person read what an angry one is told."""

from .graph import graph
from .state import TriageContext, TriageState

__all__ = ["TriageContext", "TriageState", "graph"]
