"""What a graph is handed for a run, besides its state: who asks, with which tools and budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langgraph.store.base import BaseStore

from ..tools.policy.budget import Meter
from ..tools.policy.permissions import Principal

if TYPE_CHECKING:
    from ..tools.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphContext:
    """The server's side of one run."""

    principal: Principal
    registry: Registry
    """Every tool of this server; the gateway decides each call."""
    meter: Meter
    """What the run has spent and may still spend."""
    store: BaseStore | None
    """Long-term memory, already bound to the tenant."""
    model: str = "offline"
    """Name of the chat model for graphs that were not told which to use."""


_current: ContextVar[GraphContext | None] = ContextVar("interlock_graph_context", default=None)


def current() -> GraphContext | None:
    """The context of the run that is executing here; None outside a server."""
    return _current.get()


@contextmanager
def entered(context: GraphContext) -> Iterator[None]:
    """Make `context` the current one for the code inside."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
