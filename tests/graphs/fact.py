"""A factory: the graph is built for each run, for its user and configuration, and taken down after it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph_sdk.runtime import ServerRuntime
from notes import note


class State(TypedDict, total=False):
    greeting: str
    seconds: float


@asynccontextmanager
async def make_graph(
    config: RunnableConfig, runtime: ServerRuntime
) -> AsyncGenerator[CompiledStateGraph[Any]]:
    configurable = config.get("configurable") or {}
    user = runtime.user.identity if runtime.user else configurable.get("langgraph_auth_user_id", "nobody")
    running = runtime.execution_runtime is not None
    word = configurable.get("word", "hello")
    scope: RunnableConfig = {"configurable": {"thread_id": configurable.get("thread_id", "-")}}
    note(scope, f"open {runtime.access_context} {'run' if running else 'look'} {user} {word}")

    async def greet(state: State) -> State:
        await asyncio.sleep(state.get("seconds") or 0.0)
        return {"greeting": f"{word} {user}"}

    builder = StateGraph(State)
    builder.add_node("greet", greet)
    builder.add_edge(START, "greet")
    builder.add_edge("greet", END)
    try:
        yield builder.compile()
    finally:
        note(scope, f"close {runtime.access_context} {user} {word}")
