"""Two nodes of one superstep, each with a question of its own."""

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    left: Any
    right: Any
    joined: str


async def left(state: State) -> State:
    return {"left": interrupt({"side": "left"})}


async def right(state: State) -> State:
    return {"right": interrupt({"side": "right"})}


async def join(state: State) -> State:
    return {"joined": f"{state.get('left')}/{state.get('right')}"}


builder = StateGraph(State)
builder.add_node("left", left)
builder.add_node("right", right)
builder.add_node("join", join)
builder.add_edge(START, "left")
builder.add_edge(START, "right")
builder.add_edge(["left", "right"], "join")
builder.add_edge("join", END)
graph = builder.compile()
