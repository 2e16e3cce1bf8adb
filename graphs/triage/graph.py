"""Triage: a fixed workflow. A model fills in the ticket; code and people decide everything after that."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode

from ...tools.builtin import note_write
from .nodes import answer, ask_for_number, classify, draft, record, reply, review, route
from .orders import orders
from .state import TriageContext, TriageState

_builder = StateGraph(TriageState, context_schema=TriageContext)
_builder.add_node("classify", classify)
_builder.add_node("orders", orders)
_builder.add_node("ask_for_number", ask_for_number)
_builder.add_node("answer", answer)
_builder.add_node("draft", draft)
_builder.add_node("review", review)
_builder.add_node("record", record)
_builder.add_node("tools", ToolNode([note_write]))
_builder.add_node("reply", reply)

_builder.add_edge(START, "classify")
_builder.add_conditional_edges("classify", route)
_builder.add_edge("orders", END)
_builder.add_edge("ask_for_number", END)
_builder.add_edge("answer", END)
_builder.add_edge("draft", "review")
_builder.add_edge("review", "record")
_builder.add_edge("record", "tools")
_builder.add_edge("tools", "reply")
_builder.add_edge("reply", END)

graph = _builder.compile(name="triage")
