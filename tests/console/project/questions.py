"""Graphs that ask a person: in their own words, about two calls at once, and one that takes a form."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt


class Form(TypedDict, total=False):
    text: str
    urgent: bool
    answer: str


async def ask_team(state: MessagesState) -> dict[str, Any]:
    team = interrupt({"question": "Which team takes this case?", "options": ["billing", "support"]})
    return {"messages": [AIMessage(f"It goes to {team!r}.", id="routed")]}


async def ask_about_both(state: MessagesState) -> dict[str, Any]:
    request = {
        "action_requests": [
            {"name": "send_mail", "args": {"to": "ada@example.com"}, "description": "Sends a mail."},
            {"name": "close_case", "args": {"case": 7}, "description": "Closes the case."},
        ],
        "review_configs": [
            {"action_name": "send_mail", "allowed_decisions": ["approve", "reject"]},
            {"action_name": "close_case", "allowed_decisions": ["approve", "reject"]},
        ],
    }
    decisions = interrupt(request)["decisions"]
    told = ", ".join(decision["type"] for decision in decisions)
    return {"messages": [AIMessage(f"Decided: {told}.", id="decided")]}


async def shout(state: Form) -> Form:
    return {"answer": f"{state['text'].upper()}{'!' if state.get('urgent') else '.'}"}


def _one_node(name: str, node: Any, schema: Any) -> Any:
    builder = StateGraph(schema)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    builder.add_edge(name, END)
    return builder.compile()


route = _one_node("ask_team", ask_team, MessagesState)
pair = _one_node("ask_about_both", ask_about_both, MessagesState)
form = _one_node("shout", shout, Form)
