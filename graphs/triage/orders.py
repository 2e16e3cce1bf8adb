"""The sub-graph that looks an order up and, when the customer wants that, refunds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode

from ...tools.builtin import order_lookup, order_refund
from ..tool_messages import Result, read_result
from .state import TriageState

_REASON_LIMIT = 300


def look_up(state: TriageState) -> dict[str, Any]:
    """Call for the order."""
    return {"messages": [_calling(state, order_lookup.name, {"order_id": state["order_id"]})]}


def refund(state: TriageState) -> dict[str, Any]:
    """Call for a refund of all that is left, in the customer's own words. A person decides on it."""
    order = found(state) or {}
    asked = next(m.text for m in reversed(state["messages"]) if isinstance(m, HumanMessage))
    arguments = {
        "order_id": state["order_id"],
        "amount_cents": order["refundable_cents"],
        "reason": f"The customer wrote: {asked[:_REASON_LIMIT]}",
    }
    return {"messages": [_calling(state, order_refund.name, arguments)]}


def after_call(state: TriageState) -> Literal["refund", "report"]:
    """A refund follows a look-up that found something left to give back."""
    order = found(state)
    looked_up = _last_result(state).name == order_lookup.name
    wanted = state["category"] == "refund" and looked_up
    return "refund" if wanted and order is not None and order["refundable_cents"] > 0 else "report"


def report(state: TriageState) -> dict[str, Any]:
    """Tell the customer what came of it."""
    return {"messages": [AIMessage(_report(state))]}


def found(state: TriageState) -> Mapping[str, Any] | None:
    """The record that the newest call answered; None when it failed."""
    result = read_result(_last_result(state))
    if result.outcome != "done":
        return None
    record = result.value[0] if isinstance(result.value, list) and result.value else result.value
    return record if isinstance(record, Mapping) else None


def _report(state: TriageState) -> str:
    message, record = _last_result(state), found(state)
    if record is None:
        return _not_done(read_result(message))
    if message.name == order_refund.name:
        return f"{record['refunded']} of order {record['order_id']} are on their way back to you."
    told = f"Order {record['order_id']} ({record['item']}) of {record['placed']} is {record['status']}."
    if state["category"] == "refund":
        return f"{told} It is already refunded in full, so there is nothing left to give back."
    return told


def _not_done(result: Result) -> str:
    match result.outcome:
        case "responded":
            return result.text
        case "rejected":
            return f"A colleague looked at this and decided against it. {result.text}".rstrip()
        case _:
            return f"I could not do that: {result.text}"


def _last_result(state: TriageState) -> ToolMessage:
    return next(m for m in reversed(state["messages"]) if isinstance(m, ToolMessage))


def _calling(state: TriageState, name: str, arguments: dict[str, Any]) -> AIMessage:
    # The same when the node runs again, so that the ledger knows the call.
    call_id = f"{name}-{state['order_id']}-{len(state['messages'])}"
    return AIMessage("", tool_calls=[ToolCall(name=name, args=arguments, id=call_id, type="tool_call")])


_builder = StateGraph(TriageState)
_builder.add_node("look_up", look_up)
_builder.add_node("refund", refund)
_builder.add_node("tools", ToolNode([order_lookup, order_refund]))
_builder.add_node("report", report)
_builder.add_edge(START, "look_up")
_builder.add_edge("look_up", "tools")
_builder.add_conditional_edges("tools", after_call)
_builder.add_edge("refund", "tools")
_builder.add_edge("report", END)

orders = _builder.compile(name="orders")
