"""Counts to `n`, a superstep each."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    n: int
    i: int


async def tick(state: State) -> State:
    return {"i": state.get("i", 0) + 1}


builder = StateGraph(State)
builder.add_node("tick", tick)
builder.add_edge(START, "tick")
builder.add_conditional_edges("tick", lambda state: "tick" if state["i"] < state["n"] else END, ["tick", END])
graph = builder.compile()
