"""A, B, C: each waits `seconds` and adds its name to the trace. Their functions block on purpose."""

import time
from operator import add
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from notes import note


class State(TypedDict, total=False):
    trace: Annotated[list[str], add]
    seconds: float


def wait(state: State) -> None:
    if seconds := state.get("seconds"):
        time.sleep(seconds)


def node_a(state: State, config: RunnableConfig) -> State:
    note(config, "A")
    wait(state)
    return {"trace": ["A"]}


def node_b(state: State, config: RunnableConfig) -> State:
    note(config, "B")
    wait(state)
    return {"trace": ["B"]}


def node_c(state: State, config: RunnableConfig) -> State:
    note(config, "C")
    wait(state)
    return {"trace": ["C"]}


builder = StateGraph(State)
builder.add_node("A", node_a)
builder.add_node("B", node_b)
builder.add_node("C", node_c)
builder.add_edge(START, "A")
builder.add_edge("A", "B")
builder.add_edge("B", "C")
builder.add_edge("C", END)
graph = builder.compile()
