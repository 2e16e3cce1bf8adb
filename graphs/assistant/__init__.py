"""An agent with the tools of this server."""

from .graph import graph
from .state import AssistantContext, AssistantState

__all__ = ["AssistantContext", "AssistantState", "graph"]
