"""Three graphs, one inside the other."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict


class GrandParent(TypedDict, total=False):
    messages: Annotated[list[str], operator.add]


class Parent(GrandParent, total=False):
    parent: Literal["parent_one", "parent_two"]


class Child(GrandParent, total=False):
    child: Literal["child_one", "child_two"]


def _enter(name: str) -> Any:
    return lambda _: {"messages": [f"Entered {name} node"]}


def _chain(state: Any, first: str, second: str, inner: Any) -> CompiledStateGraph:
    workflow = StateGraph(state)
    workflow.add_node(first, _enter(first))
    workflow.add_node(second, inner)
    workflow.add_edge(START, first)
    workflow.add_edge(first, second)
    workflow.add_edge(second, END)
    return workflow.compile()


child = _chain(Child, "c_one", "c_two", _enter("c_two"))
parent = _chain(Parent, "p_one", "p_two", child)
graph = _chain(GrandParent, "gp_one", "gp_two", parent)
