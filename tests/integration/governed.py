"""A thread whose graph runs behind the gateway, as a worker would drive it, without the floors above."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, RetryPolicy

from interlock.checkpoints.database import Database
from interlock.server.domain import Thread, ThreadStatus
from interlock.server.records import reviews as review_records
from interlock.server.runs import reviews as review_rules
from interlock.server.settings import ToolSettings
from interlock.tools import audit
from interlock.tools.binding import GovernedRun
from interlock.tools.context import RunScope
from interlock.tools.gateway import Caller
from interlock.tools.policy.budget import Budget, Meter
from interlock.tools.policy.permissions import Principal
from interlock.tools.toolbox import Toolbox

ADMIN = Principal(tenant="default", subject="ann", roles=frozenset({"admin"}))
APPROVE = {"decisions": [{"type": "approve"}]}


class ScriptedModel(BaseChatModel):
    """Asks for the given tool calls after a question, and only talks once they are answered."""

    calls: list[dict[str, Any]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> ScriptedModel:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        asks = messages[-1].type == "human"
        message = AIMessage("" if asks else "done", tool_calls=tool_calls(self.calls) if asks else [])
        return ChatResult(generations=[ChatGeneration(message=message)])


def tool_calls(calls: Sequence[dict[str, Any]]) -> list[Any]:
    """Tool calls as a model makes them; ids are `call-0`, `call-1`, …"""
    return [{"id": f"call-{i}", "type": "tool_call", **call} for i, call in enumerate(calls)]


def tool_graph(node: ToolNode, calls: Sequence[dict[str, Any]], *, retry: RetryPolicy | None = None) -> Any:
    """A plain graph: one node that asks for the calls, one tool node, the end."""

    def ask(_: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("", tool_calls=tool_calls(calls))]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_node("tools", node, retry_policy=retry)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "tools")
    builder.add_edge("tools", END)
    return builder.compile()


@dataclass(kw_only=True)
class Governed:
    """One thread and its graph."""

    database: Database
    graph: Pregel
    toolbox: Toolbox
    thread_id: UUID
    principal: Principal
    budget: Budget
    fence: int = 1
    status: ThreadStatus = "idle"
    interrupts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bypassed: list[str] = field(default_factory=list)
    meter: Meter = field(default_factory=lambda: Meter(Budget()))

    @property
    def config(self) -> dict[str, Any]:
        return {"configurable": {"thread_id": str(self.thread_id)}}

    async def ask(self, text: str = "please") -> list[ToolMessage]:
        """Run the graph on a question; returns the tool messages it ended or paused with."""
        return await self.run({"messages": [HumanMessage(text)]})

    async def resume(self, answer: Any, *, principal: Principal | None = None) -> list[ToolMessage]:
        """Record an answer as an admission does, then run on."""
        plan = await self.answer(answer, principal=principal)
        return await self.run(Command(resume=plan.resume))

    async def answer(self, answer: Any, *, principal: Principal | None = None) -> review_rules.ResumePlan:
        thread = await self._thread()
        async with self.database.transaction() as connection:
            return await review_rules.answer(
                connection,
                thread=thread,
                resume=answer,
                principal=principal or self.principal,
            )

    async def run(self, given: Any) -> list[ToolMessage]:
        """One attempt of a run; `interrupts` holds afterwards what it waits for."""
        self.meter = Meter(self.budget)
        gateway = self.toolbox.gateway(self.database, reviews=review_records)
        scope = RunScope(
            tenant_id=self.principal.tenant,
            thread_id=self.thread_id,
            run_id=uuid4(),
            fence=self.fence,
            graph_id="graph",
            assistant_id=uuid4(),
        )
        run = GovernedRun(
            gateway=gateway,
            caller=Caller(principal=self.principal, run=scope, meter=self.meter),
            loop=asyncio.get_running_loop(),
        )
        with run.entered():
            try:
                await self.graph.ainvoke(given, {**self.config, "callbacks": run.callbacks()})
            finally:
                await run.close()
        state = await self.graph.aget_state(self.config)
        self.interrupts = {
            task.id: [{"id": i.id, "value": i.value} for i in task.interrupts]
            for task in state.tasks
            if task.interrupts
        }
        return await self.tool_messages()

    async def tool_messages(self) -> list[ToolMessage]:
        state = await self.graph.aget_state(self.config)
        return [m for m in state.values["messages"] if isinstance(m, ToolMessage)]

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """Interrupts of the thread, `{"id", "value"}` each."""
        return [i for waiting in self.interrupts.values() for i in waiting]

    async def attempts(self) -> list[dict[str, Any]]:
        """The audit of the thread."""
        async with self.database.connection() as connection:
            return await audit.of_thread(
                connection, tenant_id=self.principal.tenant, thread_id=self.thread_id
            )

    async def trail(self) -> list[tuple[str, str, str]]:
        """The audit, short: tool, stage, outcome."""
        return [(a["tool"], a["stage"], a["outcome"]) for a in await self.attempts()]

    async def _thread(self) -> Thread:
        row = await self.database.fetch_one(
            b"SELECT *, 'idle' AS status FROM interlock.threads WHERE tenant_id = %s AND thread_id = %s",
            (self.principal.tenant, self.thread_id),
        )
        assert row is not None
        return replace(Thread.from_row(row), interrupts=self.interrupts, status=self.status)


@asynccontextmanager
async def governed(
    database: Database,
    graph: Any,
    *,
    principal: Principal = ADMIN,
    budget: Budget | None = None,
    **tools: Any,
) -> AsyncIterator[Governed]:
    """A governed thread on `graph`, which gets a saver and a store; `tools` are settings."""
    thread_id = uuid4()
    await database.execute(
        b"INSERT INTO interlock.threads (tenant_id, thread_id, fence) VALUES (%s, %s, 1)",
        (principal.tenant, thread_id),
    )
    compiled = graph.copy(update={"checkpointer": InMemorySaver(), "store": InMemoryStore()})
    yield Governed(
        database=database,
        graph=compiled,
        toolbox=Toolbox.open(ToolSettings(**tools)),
        thread_id=thread_id,
        principal=principal,
        budget=budget or Budget(),
    )
