"""Keeps a secret in every place that a graph has: state, store, stream, interrupt, error."""

from typing import Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt


class State(MessagesState, total=False):
    secret: str
    count: int
    answer: Any
    fails: bool


class Settings(TypedDict, total=False):
    tone: str


async def keep(state: State, *, store: BaseStore) -> dict[str, Any]:
    get_stream_writer()({"said": state["secret"]})
    await store.aput(("vault",), "last", {"kind": "note", "text": state["secret"]})
    return {"count": state.get("count", 0) + 1, "messages": [AIMessage(f"I keep {state['secret']}")]}


def keep_in_a_thread(state: State, *, store: BaseStore) -> dict[str, Any]:
    store.put(("vault",), "sync", {"kind": "note", "text": state["secret"]})
    return {}


async def ask(state: State) -> dict[str, Any]:
    if state.get("fails"):
        raise ValueError(f"cannot keep {state['secret']}")
    return {"answer": interrupt({"shall I keep": state["secret"]})}


builder = StateGraph(State, context_schema=Settings)
builder.add_node("keep", keep)
builder.add_node("keep_in_a_thread", keep_in_a_thread)
builder.add_node("ask", ask)
builder.add_edge(START, "keep")
builder.add_edge("keep", "keep_in_a_thread")
builder.add_edge("keep_in_a_thread", "ask")
builder.add_edge("ask", END)
graph = builder.compile()
