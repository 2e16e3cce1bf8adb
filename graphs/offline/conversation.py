"""The conversation as the offline model sees it: what is asked, what was done about it, what came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from ..tool_messages import Result, read_result

READ_LIMIT = 2000
"""Characters of a message that are looked at: a request is short, and a pasted book is no request."""


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A tool call of this turn and its result."""

    tool: str
    arguments: Mapping[str, Any]
    """As it ran: a person may have changed them."""
    result: Result | None
    """None while there is no answer."""

    @property
    def failed(self) -> bool:
        """Whether it was answered and not done."""
        return self.result is not None and self.result.outcome in ("failed", "refused", "rejected")

    @property
    def text(self) -> str:
        """The text of the result."""
        return self.result.text if self.result else ""

    @property
    def value(self) -> Any:
        """The result as JSON if it is that, else its text."""
        return self.result.value if self.result else None


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
            question=message_text(messages[newest])[:READ_LIMIT],
            earlier=tuple(message_text(m)[:READ_LIMIT] for m in reversed(said)),
            asked_back=isinstance(answered, AIMessage) and message_text(answered).rstrip().endswith("?"),
            calls=tuple(_calls(after)),
        )

    @property
    def results(self) -> list[Any]:
        """What tools answered in this turn, the newest first; failures are no results."""
        return [call.value for call in reversed(self.calls) if call.result is not None and not call.failed]


def message_text(message: BaseMessage) -> str:
    """The text of a message; other parts of its content are left out."""
    if isinstance(message.content, str):
        return message.content
    parts = [p if isinstance(p, str) else p.get("text") for p in message.content]
    return "\n".join(p for p in parts if isinstance(p, str))


def _calls(messages: Sequence[BaseMessage]) -> list[MadeCall]:
    results = {m.tool_call_id: m for m in messages if isinstance(m, ToolMessage)}
    made: list[MadeCall] = []
    for message in messages:
        if not isinstance(message, AIMessage):
            continue
        for call in message.tool_calls:
            answered = results.get(call["id"] or "")
            result = None if answered is None else read_result(answered)
            changed = result.changed if result else None
            made.append(MadeCall(call["name"], changed or call["args"], result))
    return made
