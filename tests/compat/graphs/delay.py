"""A node that takes as long as the input says."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.graph import END, START, MessagesState, StateGraph


class State(MessagesState, total=False):
    delay: int


async def long_running(state: State) -> dict[str, Any]:
    await asyncio.sleep(state["delay"] / 1000)
    return {"messages": [("ai", f"finished after {state['delay']}ms")]}


workflow = StateGraph(State)
workflow.add_node("long_running", long_running)
workflow.add_edge(START, "long_running")
workflow.add_edge("long_running", END)
graph = workflow.compile()
