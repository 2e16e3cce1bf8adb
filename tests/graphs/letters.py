"""A, B, C: each adds its name to the trace. Their functions are synchronous on purpose."""

from operator import add
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from notes import note


class State(TypedDict, total=False):
    trace: Annotated[list[str], add]


def node_a(state: State, config: RunnableConfig) -> State:
    note(config, "A")
    return {"trace": ["A"]}


def node_b(state: State, config: RunnableConfig) -> State:
    note(config, "B")
    return {"trace": ["B"]}


def node_c(state: State, config: RunnableConfig) -> State:
    note(config, "C")
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
