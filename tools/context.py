"""What a declared tool is handed besides its arguments."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from langchain_core.tools import BaseTool
from langgraph.store.base import BaseStore

from ..checkpoints.database import Database
from .egress import Egress
from .policy.permissions import Principal

BoundField = Literal["tenant", "subject", "thread_id", "run_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScope:
    """The run that a call belongs to."""

    tenant_id: str
    thread_id: UUID
    run_id: UUID
    fence: int
    graph_id: str
    assistant_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """The server's side of one call: nothing in it comes from the model."""

    principal: Principal
    run: RunScope
    database: Database
    store: BaseStore | None
    """LangGraph's long-term store, already bound to the tenant."""
    egress: Egress
    loop: asyncio.AbstractEventLoop
    """Where the run lives."""
    idempotency_key: str
    """The same for every execution of the same call."""
    raised: list[Exception] = field(default_factory=list)
    """What the tool raised, for the gateway: a tool node may turn it into a message on the way."""

    def bound(self, name: BoundField) -> Any:
        """The value of an argument that the server fills in."""
        match name:
            case "tenant":
                return self.principal.tenant
            case "subject":
                return self.principal.subject
            case "thread_id":
                return str(self.run.thread_id)
            case "run_id":
                return str(self.run.run_id)


@dataclass(slots=True, eq=False)
class Leave:
    """The gateway lets one tool run, once. What that tool calls in its turn has no part in it."""

    tool: BaseTool
    context: ToolContext
    _started: bool = False
    _entered: bool = False

    def start(self, tool: BaseTool) -> bool:
        """Whether LangChain may run this tool now."""
        if self._started or tool is not self.tool:
            return False
        self._started = True
        return True

    def enter(self, tool: BaseTool) -> bool:
        """Whether the function of this declared tool may see the context."""
        if self._entered or tool is not self.tool:
            return False
        self._entered = True
        return True


leave: ContextVar[Leave | None] = ContextVar("interlock_leave", default=None)
"""Set by the gateway for the time of one execution or dry run."""
