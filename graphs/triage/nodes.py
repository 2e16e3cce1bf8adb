"""The steps of triage: classify, route, draft, have it reviewed, act."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolCall
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from langgraph.runtime import Runtime

from ...tools.audit import column_text
from ...tools.builtin import note_write
from ...tools.builtin.notes import TEXT_LIMIT
from ..models import chat_model, default_model
from . import review as reviews
from .prompts import APOLOGY, ASK_FOR_NUMBER, CLASSIFY, NOTHING_SENT, OTHER
from .state import ORDER_PATTERN, Ticket, TriageContext, TriageState

_ANSWERED = "\n\nAnswered: "
_ORDER_ID = re.compile(r"\b[A-Za-z]-[0-9]{1,10}\b")


async def classify(state: TriageState, runtime: Runtime[TriageContext]) -> dict[str, Any]:
    """Have the model fill in a ticket for the newest message."""
    context = runtime.context or TriageContext()
    model = await chat_model(context.model or default_model())
    message = newest(state)
    # The form is for us: its tokens are not part of the conversation.
    form = model.with_structured_output(Ticket).with_config(tags=[TAG_NOSTREAM])
    filled = await form.ainvoke([SystemMessage(CLASSIFY), HumanMessage(message)])
    ticket = cast("Ticket | None", filled) or Ticket(category="other", urgent=False)
    category = ticket.category
    order_id = _order_id(ticket, message)
    if order_id is not None and _asked_for_number(state):
        category = state["category"]
    return {"category": category, "order_id": order_id, "urgent": ticket.urgent}


def route(state: TriageState) -> Literal["orders", "ask_for_number", "draft", "answer"]:
    """Choose the branch by what the ticket says; no model is asked."""
    match state["category"]:
        case "refund" | "order_status":
            return "orders" if state["order_id"] else "ask_for_number"
        case "complaint":
            return "draft"
        case "other":
            return "answer"


def ask_for_number(state: TriageState) -> dict[str, Any]:  # noqa: ARG001 - a node takes the state
    """Ask for what is missing; the next message continues here."""
    return {"messages": [AIMessage(ASK_FOR_NUMBER)]}


def answer(state: TriageState) -> dict[str, Any]:  # noqa: ARG001 - a node takes the state
    """Say what can be done here."""
    return {"messages": [AIMessage(OTHER)]}


def draft(state: TriageState) -> dict[str, Any]:
    """Write the reply to a complaint."""
    about = f" with order {state['order_id']}" if state["order_id"] else ""
    when = "today" if state["urgent"] else "within two days"
    return {"draft": APOLOGY.format(about=about, when=when), "approved": False}


def review(state: TriageState) -> dict[str, Any]:
    """Have a person read the reply before the customer does."""
    description = f"Reply to a complaint: {newest(state)}"
    verdict = reviews.ask(state["draft"], description=description)
    return {"draft": verdict.text if verdict.send else state["draft"], "approved": verdict.send}


def record(state: TriageState, config: RunnableConfig) -> dict[str, Any]:
    """Write the complaint down, with what was answered, for whoever is in charge."""
    about, number = state["order_id"] or "no order", len(state["messages"])
    thread_id = config.get("configurable", {}).get("thread_id")
    answered = _fitting(state["draft"] if state["approved"] else "nothing yet", TEXT_LIMIT // 2)
    said = _fitting(newest(state), TEXT_LIMIT - len(_ANSWERED) - len(answered))
    arguments = {
        # A note of the same title is replaced; the next complaint about this order is one more.
        "title": f"Complaint, {about}, {thread_id}/{number}",
        "text": f"{said}{_ANSWERED}{answered}",
    }
    call = ToolCall(name=note_write.name, args=arguments, id=f"complaint-{number}", type="tool_call")
    return {"messages": [AIMessage("", tool_calls=[call])]}


def _fitting(text: str, limit: int) -> str:
    """The text as a note can hold it: no complaint is lost for its length or for an odd character."""
    text = column_text(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def reply(state: TriageState) -> dict[str, Any]:
    """Send what was approved."""
    return {"messages": [AIMessage(state["draft"] if state["approved"] else NOTHING_SENT)]}


def newest(state: TriageState) -> str:
    """The newest message of the customer."""
    return next((m.text for m in reversed(state["messages"]) if isinstance(m, HumanMessage)), "")


def _order_id(ticket: Ticket, message: str) -> str | None:
    """What the model found if it is the number of an order and stands in the message, else what we find."""
    told = (ticket.order_id or "").upper()
    if re.fullmatch(ORDER_PATTERN, told) and told in message.upper():
        return told
    match = _ORDER_ID.search(message)
    return match[0].upper() if match else None


def _asked_for_number(state: TriageState) -> bool:
    said = [m for m in state["messages"] if isinstance(m, AIMessage)]
    return bool(said) and said[-1].text == ASK_FOR_NUMBER
