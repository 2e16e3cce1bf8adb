"""What can go wrong with a tool. "Try again" and "stop" are different types."""

from __future__ import annotations

from langgraph.errors import GraphBubbleUp

from .policy.budget import Limit


class ToolError(Exception):
    """A tool has no result."""


class RetryTool(ToolError):
    """Nothing happened; the same call may be tried again."""


class ToolFailed(ToolError):
    """The tool did nothing and will not; the model is told why."""


class OutcomeUnknown(ToolError):
    """The tool cannot say whether its effect happened; a person has to find out."""


class ResultInvalid(ToolError):
    """The tool did its work and answered something else than it declared."""


class ToolInvalid(ValueError):
    """A tool is declared in a way that cannot work."""


class PolicyInvalid(ValueError):
    """A policy set does not fit the schema; it is not used."""


class BudgetReached(GraphBubbleUp):
    """The run has no call left; it stops at the superstep and keeps its checkpoint.

    A `GraphBubbleUp`, so that no error handling of a graph turns it into an answer of the tool.
    """

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.message)
        self.limit = limit


class ToolBypassed(Exception):
    """A tool was called past the gateway, which a declared tool never allows, and mode `enforce` no tool."""
