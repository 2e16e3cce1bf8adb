"""A graph that says back what it is given, and what it finds in `configurable`."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    text: str
    found: dict[str, Any]


def echo(state: State, config: RunnableConfig) -> State:
    found = config.get("configurable", {})
    return {"found": {key: value for key, value in found.items() if isinstance(value, str)}}


builder = StateGraph(State)
builder.add_node("echo", echo)
builder.add_edge(START, "echo")
builder.add_edge("echo", END)
graph = builder.compile()
