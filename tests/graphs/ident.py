"""Tells what a node can learn from its configuration about the run it is part of."""

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

TOLD = ("graph_id", "assistant_id", "thread_id", "run_id", "colour")


class State(TypedDict, total=False):
    told: dict[str, str]
    metadata_told: dict[str, str]
    tags_told: list[str]
    limit_told: int


async def tell(state: State, config: RunnableConfig) -> dict[str, Any]:
    configurable, metadata = config.get("configurable", {}), config.get("metadata", {})
    return {
        "told": {name: str(configurable[name]) for name in TOLD if name in configurable},
        "metadata_told": {name: str(metadata[name]) for name in (*TOLD, "origin") if name in metadata},
        "tags_told": sorted(tag for tag in config.get("tags") or [] if ":" not in tag),
        "limit_told": config.get("recursion_limit", 0),
    }


builder = StateGraph(State)
builder.add_node("tell", tell)
builder.add_edge(START, "tell")
builder.add_edge("tell", END)
graph = builder.compile()
