"""Graphs whose states say more about themselves in their JSON Schemas, or nothing more."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, Field

_MESSAGES: Any = Field(default_factory=list, json_schema_extra={"langgraph_type": "messages"})


class Described(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = _MESSAGES
    count: int = 0


class Reduced(BaseModel):
    messages: Annotated[list[str], operator.add] = _MESSAGES
    count: int = 0
    status: Literal["idle", "processing", "done"] = "idle"


class Plain(BaseModel):
    items: list[str] = []
    counter: int = 0
    label: str | None = None


def describe(state: Described) -> dict[str, Any]:
    return {"messages": [AIMessage(f"Response {state.count + 1}")], "count": state.count + 1}


def reduce(state: Reduced) -> dict[str, Any]:
    return {"messages": [f"Message {state.count + 1}"], "count": state.count + 1, "status": "processing"}


def add_item(state: Plain) -> dict[str, Any]:
    number = state.counter + 1
    return {"items": [*state.items, f"Item {number}"], "counter": number, "label": "processed"}


def _one_node(state: Any, node: Any) -> CompiledStateGraph:
    workflow = StateGraph(state)
    workflow.add_node("process", node)
    workflow.add_edge(START, "process")
    workflow.add_edge("process", END)
    return workflow.compile()


described = _one_node(Described, describe)
reduced = _one_node(Reduced, reduce)
plain = _one_node(Plain, add_item)
