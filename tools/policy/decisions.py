"""A person's decisions, read from any of the shapes that inboxes send. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .review import DecisionType

_TYPES: Mapping[str, DecisionType] = {
    "approve": "approve",
    "accept": "approve",
    "edit": "edit",
    "reject": "reject",
    "ignore": "reject",
    "respond": "respond",
    "response": "respond",
}
_MESSAGE_LIMIT = 100_000
_FORM = 'send {"decisions": [{"type": "approve" | "edit" | "reject" | "respond", …}]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision."""

    type: DecisionType
    action: str | None = None
    """Name of the action that an edit was made for, if it says so."""
    arguments: dict[str, Any] | None = None
    """Of an edit."""
    message: str | None = None
    """Of a response, and of a rejection that gives a reason."""


class NotADecision(ValueError):
    """The answer cannot be read as decisions; the message says what is wrong."""


def parse_decisions(answer: Any) -> list[Decision]:
    """Read `{"decisions": […]}` (LangChain), `[{"type", "args"}]` (agent inbox) or one bare decision.

    Raises:
        NotADecision: it is none of these.
    """
    if isinstance(answer, dict):
        answer = answer.get("decisions", [answer])
    if not isinstance(answer, Sequence) or isinstance(answer, str) or not answer:
        raise NotADecision(f"this is no decision; {_FORM}")
    return [_decision(item) for item in answer]


def _decision(item: Any) -> Decision:
    if not isinstance(item, dict):
        raise NotADecision(f"this is no decision; {_FORM}")
    named = item.get("type")
    kind = _TYPES.get(named) if isinstance(named, str) else None
    match kind:
        case None:
            raise NotADecision(f"{named!r} is no decision; {_FORM}")
        case "approve":
            return Decision(type=kind)
        case "edit":
            return _edit(item)
        case "reject" | "respond":
            message = item.get("message", item.get("args"))
            if message is None and kind == "reject":
                return Decision(type=kind)
            if not isinstance(message, str) or len(message) > _MESSAGE_LIMIT:
                raise NotADecision(f"the `message` of a {kind!r} decision must be a text")
            return Decision(type=kind, message=message)


def _edit(item: dict[str, Any]) -> Decision:
    """LangChain: `edited_action: {name, args}`; agent inbox: `args: {action, args}`."""
    edited = item.get("edited_action", item.get("args"))
    if not isinstance(edited, dict) or not isinstance(edited.get("args"), dict):
        raise NotADecision('an edit needs `edited_action: {"name": …, "args": {…}}`')
    name = edited.get("name", edited.get("action"))
    if name is not None and not isinstance(name, str):
        raise NotADecision("the `name` of an edited action must be a text")
    return Decision(type="edit", action=name, arguments=edited["args"])
