"""The question to a person about a reply, and how the answer is read."""

from __future__ import annotations

from typing import Any, NamedTuple

from langgraph.types import interrupt

from ...tools.policy.decisions import NotADecision, parse_decisions
from ...tools.policy.review import action_request

ACTION = "send_reply"


class Verdict(NamedTuple):
    """What a person decided about a reply."""

    send: bool
    text: str


def ask(draft: str, *, description: str) -> Verdict:
    """Stop the graph until a person has decided; an answer that is no decision is asked for again."""
    problem = None
    while True:
        answer = interrupt(_payload(draft, description if problem is None else f"{description}\n\n{problem}"))
        try:
            return read(answer, draft=draft)
        except NotADecision as error:
            problem = f"The last answer could not be used: {error}"


def read(answer: Any, *, draft: str) -> Verdict:
    """Read one decision in any of the forms that inboxes send.

    Raises:
        NotADecision: it is none.
    """
    decisions = parse_decisions(answer)
    if len(decisions) != 1:
        raise NotADecision(f"one decision is needed, not {len(decisions)}")
    decision = decisions[0]
    match decision.type:
        case "approve":
            return Verdict(True, draft)
        case "edit":
            return Verdict(True, _text((decision.arguments or {}).get("text"), "`args.text`"))
        case "reject":
            return Verdict(False, decision.message or "")
        case "respond":
            return Verdict(True, _text(decision.message, "`message`"))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise NotADecision(f"{name} must be a text")
    return value


def _payload(draft: str, description: str) -> dict[str, Any]:
    return {
        "action_requests": [action_request(ACTION, {"text": draft}, description)],
        "review_configs": [
            {"action_name": ACTION, "allowed_decisions": ["approve", "edit", "reject", "respond"]}
        ],
    }
