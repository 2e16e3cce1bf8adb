"""Much of everything: an answer of `size` characters after `events` custom events of `width` characters.

After every fiftieth of them it sleeps for `pause` seconds.
"""

import asyncio
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph


class State(MessagesState, total=False):
    size: int
    events: int
    width: int
    pause: float


async def produce(state: State) -> dict[str, Any]:
    write = get_stream_writer()
    for number in range(state.get("events", 0)):
        write({"number": number, "text": "x" * state.get("width", 0)})
        if number % 50 == 0:
            await asyncio.sleep(state.get("pause", 0))
    size = state.get("size", 0)
    return {"messages": [AIMessage(content="y" * size, id=f"big-{len(state['messages'])}")]}


builder = StateGraph(State)
builder.add_node("produce", produce)
builder.add_edge(START, "produce")
builder.add_edge("produce", END)
graph = builder.compile()
