"""A model and a tool in turn, with the store, an interrupt and a pause on demand."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from langchain_core.messages import AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_store, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from models import model_of
from typing_extensions import TypedDict

SHARED = ("sharedState", "data")
WRITTEN = ("inputtedState", "data")


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    sharedStateValue: str | None
    sharedStateFromStoreConfig: dict[str, Any] | None
    interrupt: bool
    keyOne: str | None
    keyTwo: str | None
    sleep: float | dict[str, int] | None


class Context(TypedDict, total=False):
    model_name: str


async def agent(state: State, config: RunnableConfig) -> dict[str, Any]:
    if state.get("interrupt"):
        interrupt("i want to interrupt")
    if (pause := state.get("sleep")) is not None and isinstance(state["messages"][-1], HumanMessage):
        await _sleep(pause)
    answer = await model_of(config, ("begin", "end")).ainvoke(state["messages"], config)
    if not state.get("sharedStateFromStoreConfig"):
        await get_store().aput(SHARED, "user_id", {"id": config["configurable"].get("user_id")})
    return {"interrupt": False, "messages": [answer]}


async def _sleep(pause: float | dict[str, int]) -> None:
    if not isinstance(pause, dict):
        await asyncio.sleep(pause)
        return
    for step in range(pause["steps"]):
        get_stream_writer()({"type": "sleep", "step": step})
        await asyncio.sleep(pause["ms"] / 1000)


async def tool(state: State) -> dict[str, Any]:
    found = await get_store().aget(SHARED, "user_id")
    text = f"tool_call__{state['messages'][-1].content}"
    return {
        "messages": [ToolMessage(text, tool_call_id="tool_call_id")],
        "sharedStateFromStoreConfig": found.value if found else None,
    }


async def check_shared_state(_: State) -> dict[str, Any]:
    found = await get_store().aget(WRITTEN, "my_key")
    if found is None or not found.value.get("isTrue"):
        raise ValueError("Value is not true")
    return {}


def after_agent(state: State) -> str:
    match state["messages"][0].content:
        case "should_end":
            return END
        case "___check_state_value":
            return "checkSharedState"
        case _:
            return END if state["messages"][-1].content == "end" else "tool"


workflow = StateGraph(State, context_schema=Context)
workflow.add_node("agent", agent)
workflow.add_node("tool", tool)
workflow.add_node("checkSharedState", check_shared_state)
workflow.add_edge(START, "agent")
workflow.add_conditional_edges("agent", after_agent, ["tool", "checkSharedState", END])
workflow.add_edge("tool", "agent")
workflow.add_edge("checkSharedState", END)
graph = workflow.compile()
