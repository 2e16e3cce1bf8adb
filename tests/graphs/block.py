"""A coroutine that sleeps without giving the loop back: what every server is told not to do."""

import time
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    seconds: float
    woke: bool


async def block(state: State) -> State:
    time.sleep(state.get("seconds", 5.0))  # noqa: ASYNC251 - the point of this graph
    return {"woke": True}


builder = StateGraph(State)
builder.add_node("block", block)
builder.add_edge(START, "block")
builder.add_edge("block", END)
graph = builder.compile()
