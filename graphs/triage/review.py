"""The question to a person about a reply, and how the answer is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from langgraph.types import interrupt

ACTION = "send_reply"
_FORM = 'answer with {"decisions": [{"type": "approve" | "edit" | "reject" | "respond", …}]}'


class Verdict(NamedTuple):
    """What a person decided about a reply."""

    send: bool
    text: str


class NotADecision(ValueError):
    """The answer cannot be read as a decision; the message says what is wrong."""


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
    if isinstance(answer, Mapping) and "decisions" in answer:
        answer = answer["decisions"]
    if isinstance(answer, list):
        if len(answer) != 1:
            raise NotADecision(f"one decision is needed, not {len(answer)}; {_FORM}")
        answer = answer[0]
    if not isinstance(answer, Mapping):
        raise NotADecision(_FORM)
    match answer.get("type"):
        case "approve" | "accept":
            return Verdict(True, draft)
        case "edit":
            return Verdict(True, _edited(answer))
        case "reject" | "ignore":
            return Verdict(False, str(answer.get("message") or ""))
        case "respond" | "response":
            return Verdict(True, _text(answer.get("message", answer.get("args")), "`message`"))
        case other:
            raise NotADecision(f"{other!r} is no decision; {_FORM}")


def _edited(answer: Mapping[str, Any]) -> str:
    """LangChain sends `edited_action: {name, args}`, the agent inbox `args: {action, args}`."""
    edited = answer.get("edited_action", answer.get("args"))
    arguments = edited.get("args") if isinstance(edited, Mapping) else None
    if not isinstance(arguments, Mapping):
        raise NotADecision('an edit needs `edited_action: {"name": "send_reply", "args": {"text": …}}`')
    return _text(arguments.get("text"), "`args.text`")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise NotADecision(f"{name} must be a text")
    return value


def _payload(draft: str, description: str) -> dict[str, Any]:
    return {
        "action_requests": [{"name": ACTION, "args": {"text": draft}, "description": description}],
        "review_configs": [
            {"action_name": ACTION, "allowed_decisions": ["approve", "edit", "reject", "respond"]}
        ],
    }
