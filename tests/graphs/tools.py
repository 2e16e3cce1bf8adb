"""A model that asks for a tool, the tool, and the model again. The file is named like a package of ours.

A model refuses a conversation in which a tool call has no answer, as the real ones do.
"""

import asyncio
from typing import Any

from fake_model import FakeModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


class State(MessagesState, total=False):
    seconds: float


@tool
async def lookup(key: str, seconds: float = 0.0) -> str:
    """Look up a word in the dictionary."""
    await asyncio.sleep(seconds)
    return f"{key}: a large vehicle"


def refuse_orphans(messages: list[BaseMessage]) -> None:
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    asked = {call["id"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    if orphans := asked - answered:
        raise ValueError(f"tool calls without an answer: {sorted(orphans)}")


async def model(state: State) -> dict[str, Any]:
    refuse_orphans(state["messages"])
    call = {"name": "lookup", "args": {"key": "lorry", "seconds": state.get("seconds") or 0.0}}
    return {"messages": [await FakeModel(calls=[call]).ainvoke(state["messages"])]}


builder = StateGraph(State)
builder.add_node("model", model)
builder.add_node("tools", ToolNode([lookup]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition, ["tools", END])
builder.add_edge("tools", "model")
graph = builder.compile()
