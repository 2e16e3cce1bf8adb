"""A node that tells what the context says."""

from __future__ import annotations

from typing import Any, Literal

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

Model = Literal["anthropic", "openai", "unknown"]


class State(TypedDict, total=False):
    message: str
    model: Model


class Context(TypedDict, total=False):
    model: Model


def use_context(_: State, runtime: Runtime[Context]) -> dict[str, Any]:
    return {"model": (runtime.context or {}).get("model")}


workflow = StateGraph(State, context_schema=Context)
workflow.add_node("use_context", use_context)
workflow.add_edge(START, "use_context")
graph = workflow.compile()
