"""A node that asks a model which does not stream, adds a message by hand, and tells its progress by name."""

from typing import Any

from fake_model import FakeModel
from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph


async def work(state: MessagesState) -> dict[str, Any]:
    write = get_stream_writer()
    write({"name": "progress", "step": "ask"})
    write({"step": "unnamed"})
    write({"name": "other", "step": "elsewhere"})
    answer = await FakeModel(disable_streaming=True).ainvoke(state["messages"])
    write({"name": "progress", "payload": {"step": "wrapped"}})
    write({"name": "progress", "payload": "counted", "step": "both"})
    call = {"name": "lookup", "args": {"key": "lorry"}, "id": "call-1", "type": "tool_call"}
    return {"messages": [answer, AIMessage(content="", tool_calls=[call], id="by-hand")]}


builder = StateGraph(MessagesState)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
graph = builder.compile()
