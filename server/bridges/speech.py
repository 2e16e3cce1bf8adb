"""Messages of a graph as other protocols need them: plain text, and who said it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from ..domain import Event
from ..encoding import encode

AI = frozenset({"ai", "AIMessage", "AIMessageChunk"})


def text_of(content: Any) -> str:
    """The text of a message's content, which may come in blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block if isinstance(block, dict) else {"type": "text", "text": block} for block in content]
    return "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def arguments_of(call: dict[str, Any]) -> str:
    """The arguments of a tool call, as text."""
    return encode(call.get("args") or {}).decode()


def messages_of(values: Any) -> list[dict[str, Any]]:
    """The messages in a state."""
    messages = values.get("messages") if isinstance(values, dict) else None
    return [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []


def last_answer(values: Any) -> str | None:
    """What a model said last in a state; None when nothing was said."""
    for message in reversed(messages_of(values)):
        if message.get("type") in AI and (text := text_of(message.get("content"))):
            return text
    return None


def last_turn(values: Any) -> list[dict[str, Any]]:
    """The messages in a state from where a person spoke last."""
    messages = messages_of(values)
    spoke = [place for place, one in enumerate(messages) if one.get("type") == "human"]
    return messages[spoke[-1] :] if spoke else messages


def question(interrupts: list[dict[str, Any]], thread_id: UUID) -> str:
    """What a run waits for and where, in words that a person or a model can do something with."""
    return f"{waits_for(interrupts)}\nIt goes on when that is answered on thread {thread_id}."


def waits_for(interrupts: list[dict[str, Any]]) -> str:
    """What a run waits for, in words."""
    if not interrupts:
        return "The run stopped at a breakpoint and waits until somebody lets it go on."
    return f"The run waits for a person: {'; '.join(asked(one.get('value')) for one in interrupts)}"


def asked(value: Any) -> str:
    """What one interrupt asks, in words."""
    match value:
        case {"action_requests": [*requests]}:
            return "; ".join(_request(one) for one in requests)
        case {"question": str(text)} | str(text):
            return text
        case _:
            return str(value)


def _request(request: Any) -> str:
    if not isinstance(request, dict):
        return str(request)
    return f"approve `{request.get('name')}` with {request.get('args', request.get('arguments'))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What was said and done in a state since a person spoke last."""

    text: str
    """What a model said last."""
    open_calls: list[dict[str, Any]]
    """Tool calls without an answer: the graph leaves them to whoever called it."""
    made_calls: list[dict[str, Any]]
    """Tool calls that the graph made, each with its `result`."""
    input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, values: Any) -> Turn:
        """Read the last turn of a state."""
        turn = last_turn(values)
        said = [one for one in turn if one.get("type") in AI]
        answers = {one.get("tool_call_id"): one.get("content") for one in turn if one.get("type") == "tool"}
        asked = [call for one in said for call in one.get("tool_calls") or ()]
        usages = [one.get("usage_metadata") or {} for one in said]
        return cls(
            text=text_of(said[-1].get("content")) if said else "",
            open_calls=[call for call in asked if call.get("id") not in answers],
            made_calls=[
                {name: call.get(name) for name in ("id", "name", "args")} | {"result": answers[call["id"]]}
                for call in asked
                if call.get("id") in answers
            ],
            input_tokens=sum(int(usage.get("input_tokens") or 0) for usage in usages),
            output_tokens=sum(int(usage.get("output_tokens") or 0) for usage in usages),
        )


def spoken(event: Event) -> dict[str, Any] | None:
    """The message, or the piece of one, that a graph itself says in an event."""
    if event.kind != "messages" or event.namespace:
        return None
    message, _ = orjson.loads(event.data)
    return message


class Spoken:
    """What models say in a run, as it comes; feed it every event of the run."""

    def __init__(self) -> None:
        self.said = False
        self._speaker: str | None = None

    def texts(self, event: Event) -> Iterator[str]:
        """What an event adds to the text; messages are set apart by an empty line."""
        message = spoken(event)
        if message is None or message.get("type") not in AI:
            return
        text = text_of(message.get("content"))
        if not text:
            return
        if self.said and message.get("id") != self._speaker:
            yield "\n\n"
        self.said, self._speaker = True, message.get("id")
        yield text
