"""A question to a person between two counted nodes."""

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    before: int
    answer: Any
    after: int


async def count_before(state: State) -> State:
    return {"before": state.get("before", 0) + 1}


async def ask(state: State) -> State:
    return {"answer": interrupt({"question": "go on?", "before": state.get("before", 0)})}


async def count_after(state: State) -> State:
    return {"after": state.get("after", 0) + 1}


builder = StateGraph(State)
builder.add_node("count_before", count_before)
builder.add_node("ask", ask)
builder.add_node("count_after", count_after)
builder.add_edge(START, "count_before")
builder.add_edge("count_before", "ask")
builder.add_edge("ask", "count_after")
builder.add_edge("count_after", END)
graph = builder.compile()
