"""Raises after `seconds`: an exception class of its own, a well-known one, or one that ends programs."""

import asyncio
import sys
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class LorryError(Exception):
    """The lorry broke down."""


class State(TypedDict, total=False):
    seconds: float
    own: bool
    exits: str
    """`here`, or `thread` for a synchronous call."""
    reached: bool


async def start(state: State) -> State:
    return {"reached": True}


async def fail(state: State) -> State:
    await asyncio.sleep(state.get("seconds") or 0.0)
    if state.get("exits") == "here":
        sys.exit(3)
    if state.get("exits") == "thread":
        await asyncio.to_thread(sys.exit, 3)
    if state.get("own"):
        raise LorryError("no petrol left")
    raise ValueError("boom happened")


builder = StateGraph(State)
builder.add_node("start", start)
builder.add_node("fail", fail)
builder.add_edge(START, "start")
builder.add_edge("start", "fail")
builder.add_edge("fail", END)
graph = builder.compile()
