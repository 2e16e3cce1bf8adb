"""Tool calls of the input between questions to a person: one before them, one beside them."""

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

from interlock.tools.builtin import BUILTIN


class State(MessagesState, total=False):
    calls: list[dict[str, Any]]
    before: str
    beside: str


async def ask_before(state: State) -> None:
    if state.get("before"):
        interrupt(state["before"])


async def model(state: State) -> dict[str, Any]:
    calls = [{"id": f"call-{i}", "type": "tool_call", **call} for i, call in enumerate(state["calls"])]
    return {"messages": [AIMessage("", tool_calls=calls)]}


async def ask_beside(state: State) -> None:
    if state.get("beside"):
        interrupt(state["beside"])


builder = StateGraph(State)
builder.add_node("ask_before", ask_before)
builder.add_node("model", model)
builder.add_node("tools", ToolNode(BUILTIN))
builder.add_node("ask_beside", ask_beside)
builder.add_edge(START, "ask_before")
builder.add_edge("ask_before", "model")
builder.add_edge("model", "tools")
builder.add_edge("model", "ask_beside")
builder.add_edge("tools", END)
builder.add_edge("ask_beside", END)
graph = builder.compile()
