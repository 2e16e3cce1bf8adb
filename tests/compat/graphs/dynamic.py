"""A factory: the one node is called as the config says."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict


def _appended(old: list[str], new: list[str] | str) -> list[str]:
    return [*old, *([new] if isinstance(new, str) else new)]


class State(TypedDict, total=False):
    node: str
    messages: Annotated[list[str], _appended]


def make_graph(config: RunnableConfig) -> CompiledStateGraph:
    name = config.get("configurable", {}).get("nodeName", "default")

    def say(_: State) -> dict[str, Any]:
        return {"node": name, "messages": [name]}

    workflow = StateGraph(State)
    workflow.add_node(name, say)
    workflow.add_edge(START, name)
    workflow.add_edge(name, END)
    return workflow.compile()
