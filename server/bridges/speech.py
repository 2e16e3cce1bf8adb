"""Messages of a graph as other protocols need them: plain text, and who said it."""

from __future__ import annotations

from typing import Any

AI = frozenset({"ai", "AIMessage", "AIMessageChunk"})


def text_of(content: Any) -> str:
    """The text of a message's content, which may come in blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block if isinstance(block, dict) else {"type": "text", "text": block} for block in content]
    return "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


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


def question(interrupts: list[dict[str, Any]]) -> str:
    """What a run waits for, in words that a person or a model can do something with."""
    if not interrupts:
        return "The run stopped at a breakpoint and waits until somebody lets it go on."
    return "The run waits for a person: " + "; ".join(_asked(one.get("value")) for one in interrupts)


def _asked(value: Any) -> str:
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
