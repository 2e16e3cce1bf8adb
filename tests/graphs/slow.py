"""`steps` steps of `seconds` each; every step is noted, and sends `events` custom events."""

import asyncio
from operator import add
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from notes import note


class State(TypedDict, total=False):
    steps: int
    seconds: float
    events: int
    done: Annotated[list[int], add]


async def step(state: State, config: RunnableConfig) -> dict[str, Any]:
    number = len(state.get("done", [])) + 1
    note(config, f"step {number}")
    write = get_stream_writer()
    events = state.get("events", 1)
    for event in range(events):
        await asyncio.sleep(state.get("seconds", 0.1) / max(events, 1))
        write({"step": number, "event": event})
    if not events:
        await asyncio.sleep(state.get("seconds", 0.1))
    return {"done": [number]}


def more(state: State) -> str:
    return "step" if len(state.get("done", [])) < state.get("steps", 3) else END


builder = StateGraph(State)
builder.add_node("step", step)
builder.add_edge(START, "step")
builder.add_conditional_edges("step", more, ["step", END])
graph = builder.compile()
