"""The assistant: a model and its tools, in turns, until the model has nothing left to call."""

from __future__ import annotations

from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from ...tools.builtin import BUILTIN
from .nodes import think
from .state import AssistantContext, AssistantState

_builder = StateGraph(AssistantState, context_schema=AssistantContext)
_builder.add_node("think", think)
_builder.add_node("tools", ToolNode(list(BUILTIN)))
_builder.add_edge(START, "think")
_builder.add_conditional_edges("think", tools_condition)
_builder.add_edge("tools", "think")

graph = _builder.compile(name="assistant")
