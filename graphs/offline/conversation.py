"""The conversation as the offline model sees it: what is asked, what was done about it, what came before."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

_UNTRUSTED = re.compile(r"<(?P<tag>untrusted[\w-]*)\b[^>]*>\n?(?P<text>.*?)\n?</(?P=tag)\b[^>]*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A tool call of this turn and its result."""

    tool: str
    arguments: Mapping[str, Any]
    text: str | None
    """What the tool answered; None while there is no answer."""
    failed: bool

    @property
    def value(self) -> Any:
        """The answer as JSON if it is that, else its text."""
        if self.text is None:
            return None
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text


@dataclass(frozen=True, slots=True)
class Turn:
    """The newest question and all that belongs to it."""

    question: str
    earlier: tuple[str, ...]
    """What was said before it, the newest first."""
    asked_back: bool
    """Whether our last words before it were a question."""
    calls: tuple[MadeCall, ...]

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> Turn:
        """Read the messages of a thread."""
        newest = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=None)
        if newest is None:
            return cls("", (), asked_back=False, calls=())
        before, after = messages[:newest], messages[newest + 1 :]
        said = [m for m in before if isinstance(m, AIMessage | HumanMessage)]
        answered = said[-1] if said else None
        return cls(
            question=message_text(messages[newest]),
            earlier=tuple(message_text(m) for m in reversed(said)),
            asked_back=isinstance(answered, AIMessage) and message_text(answered).rstrip().endswith("?"),
            calls=tuple(_calls(after)),
        )

    @property
    def results(self) -> list[Any]:
        """What tools answered in this turn, the newest first; failures are no results."""
        return [call.value for call in reversed(self.calls) if call.text is not None and not call.failed]


def message_text(message: BaseMessage) -> str:
    """The text of a message; other parts of its content are left out."""
    if isinstance(message.content, str):
        return message.content
    parts = [p if isinstance(p, str) else p.get("text", "") for p in message.content]
    return "\n".join(p for p in parts if p)


def _calls(messages: Sequence[BaseMessage]) -> list[MadeCall]:
    results = {m.tool_call_id: m for m in messages if isinstance(m, ToolMessage)}
    made: list[MadeCall] = []
    for message in messages:
        if not isinstance(message, AIMessage):
            continue
        for call in message.tool_calls:
            result = results.get(call["id"] or "")
            text = None if result is None else _unwrapped(message_text(result))
            failed = result is not None and result.status == "error"
            made.append(MadeCall(call["name"], call["args"], text, failed))
    return made


def _unwrapped(text: str) -> str:
    """Without the marks that the gateway puts around somebody else's text."""
    match = _UNTRUSTED.search(text)
    return match["text"] if match else text
