"""A tool that never returns: a coroutine nobody wakes, or a thread nobody can stop."""

import asyncio
import threading
from typing import Any

from fake_model import FakeModel
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


class State(MessagesState, total=False):
    thread: bool


@tool
async def wait_for_ever() -> str:
    """Wait for an event that nobody sets."""
    await asyncio.Event().wait()
    return "never"


@tool
def hang_for_ever() -> str:
    """Hang a thread on an event that nobody sets."""
    # A daemon waits, so that the thread which is lost here does not hold the process back at its end.
    waiter = threading.Thread(target=threading.Event().wait, daemon=True)
    waiter.start()
    waiter.join()
    return "never"


async def model(state: State) -> dict[str, Any]:
    name = "hang_for_ever" if state.get("thread") else "wait_for_ever"
    return {"messages": [await FakeModel(calls=[{"name": name, "args": {}}]).ainvoke(state["messages"])]}


builder = StateGraph(State)
builder.add_node("model", model)
builder.add_node("tools", ToolNode([wait_for_ever, hang_for_ever]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition, ["tools", END])
builder.add_edge("tools", "model")
graph = builder.compile()
