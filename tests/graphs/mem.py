"""Remembers across threads: reads an item of the store and writes it back."""

from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore


class State(TypedDict, total=False):
    who: str
    visits: int
    ttl: float
    """Minutes after which the item is gone."""


async def visit(state: State, config: RunnableConfig, *, store: BaseStore) -> State:
    namespace = ("visits", state.get("who", "nobody"))
    item = await store.aget(namespace, "count")
    visits = (item.value["n"] if item else 0) + 1
    await store.aput(namespace, "count", {"n": visits}, ttl=state.get("ttl"))
    return {"visits": visits}


builder = StateGraph(State)
builder.add_node("visit", visit)
builder.add_edge(START, "visit")
builder.add_edge("visit", END)
graph = builder.compile()
