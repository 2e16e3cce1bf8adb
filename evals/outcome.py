"""What a case led to, as seen from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

CallStatus = Literal["success", "error", "open"]
"""open: the call has no result."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of the conversation."""

    tool: str
    arguments: Mapping[str, Any]
    status: CallStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything that scorers may judge."""

    answers: tuple[str, ...] = ()
    """The last words of the assistant in each turn; empty when a turn ended without any."""
    calls: tuple[Call, ...] = ()
    reviews: tuple[str, ...] = ()
    """Actions that a person was asked about, in order."""
    waiting: tuple[str, ...] = ()
    """Those that still wait at the end."""
    values: Mapping[str, Any] | None = None
    """The final state."""
    error: str | None = None
    """How the run failed, `type: message`."""
    tokens: int = 0
    first_token_s: float | None = None
    """From sending a turn to its first text; the slowest of the turns."""
    seconds: float = 0.0
    """Time of the whole case."""

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.answers[-1] if self.answers else ""


def answer_in(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message of the assistant after the last one of the person."""
    for message in reversed(messages):
        if message.get("type") == "human":
            return ""
        if message.get("type") == "ai" and (text := text_of(message)):
            return text
    return ""


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message as the wire gives it."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    return "".join(p if isinstance(p, str) else p.get("text", "") for p in content)


def calls_in(messages: Sequence[Mapping[str, Any]]) -> tuple[Call, ...]:
    """Every tool call of a conversation with what became of it."""
    status = {m["tool_call_id"]: m.get("status", "success") for m in messages if m.get("type") == "tool"}
    return tuple(
        Call(call["name"], call["args"], status.get(call["id"], "open"))
        for message in messages
        for call in message.get("tool_calls") or ()
    )


def tokens_in(messages: Sequence[Mapping[str, Any]]) -> int:
    """What the models said that their messages cost."""
    return sum((m.get("usage_metadata") or {}).get("total_tokens", 0) for m in messages)
