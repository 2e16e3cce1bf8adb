"""What stops calls of one tool node, held back until its other calls have ended.

LangGraph would leave those running on their own when the first of them raises.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt

from .errors import BudgetReached

Pause = GraphInterrupt | BudgetReached
"""What stops a call without an answer."""
PAUSES = (GraphInterrupt, BudgetReached)


@contextmanager
def gathered() -> Iterator[None]:
    """Inside a tool node makes its calls; what stopped them is raised once all have ended."""
    node = _Node()
    token = _node.set(node)
    try:
        yield
    finally:
        _node.reset(token)
    node.release()


class PausableCall:
    """A call of a tool node, from its beginning; outside `gathered` nothing is held back."""

    def __init__(self, tool_call_id: str) -> None:
        self._tool_call_id = tool_call_id
        self._node = _node.get()
        # Pauses are raised in the order of their calls.
        self._number = next(self._node.numbers) if self._node else 0

    def hold(self, pause: Pause) -> ToolMessage:
        """Hold back what stopped the call; the message stands in until the node has gathered its calls."""
        if self._node is None:
            raise pause
        self._node.raised[self._number] = pause
        return ToolMessage("", tool_call_id=self._tool_call_id)


class _Node:
    """One execution of a tool node."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.raised: dict[int, Pause] = {}

    def release(self) -> None:
        """Raise what was held back: a spent budget first, else all interrupts as one."""
        interrupts: dict[str, Interrupt] = {}
        for _, pause in sorted(self.raised.items(), key=lambda item: item[0]):
            if isinstance(pause, BudgetReached):
                raise pause
            for interrupt in pause.args[0]:
                interrupts.setdefault(interrupt.id, interrupt)
        if interrupts:
            raise GraphInterrupt(tuple(interrupts.values()))


_node: ContextVar[_Node | None] = ContextVar("interlock_tool_node", default=None)
