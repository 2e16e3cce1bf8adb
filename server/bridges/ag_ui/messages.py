"""Messages of AG-UI as those of a graph, and the other way. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ag_ui.core import (
    ActivityMessage,
    AssistantMessage,
    ContentPart,
    DataSource,
    DeveloperMessage,
    FileSource,
    FunctionCall,
    Message,
    ReasoningMessage,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UrlSource,
    UserMessage,
)
from pydantic import TypeAdapter

from ...encoding import JsonObject
from ..speech import AI, arguments_of, text_of

_PARTS: TypeAdapter[list[ContentPart]] = TypeAdapter(list[ContentPart])
_SOURCES = {"base64": "data", "url": "url", "file_id": "file"}
_KINDS = {"image": "image", "audio": "audio", "video": "video", "file": "document"}
"""Blocks of a graph's messages, and the parts that they are here."""


def given(message: Message) -> JsonObject | None:
    """A message as a graph takes it; None for what is only shown to people."""
    shape = _given(message)
    name = getattr(message, "name", None)
    return shape and {**shape, "id": message.id, **({"name": name} if name else {})}


def _given(message: Message) -> JsonObject | None:
    match message:
        case UserMessage():
            return {"role": "user", "content": _content(message.content)}
        case AssistantMessage():
            calls = [one.model_dump(include={"id", "type", "function"}) for one in message.tool_calls or ()]
            more = {"tool_calls": calls} if calls else {}
            return {"role": "assistant", "content": message.content or "", **more}
        case ToolMessage():
            answer = {
                "role": "tool",
                "content": _content(message.content),
                "tool_call_id": message.tool_call_id,
            }
            return answer | ({"status": "error"} if message.error else {})
        case SystemMessage() | DeveloperMessage():
            return {"role": "system", "content": message.content}
        case ActivityMessage() | ReasoningMessage():
            return None


def _content(content: str | list[ContentPart]) -> str | list[JsonObject]:
    return content if isinstance(content, str) else [_block(part) for part in content]


def _block(part: ContentPart) -> JsonObject:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind = "file" if part.type == "document" else part.type
    match part.source:
        case DataSource() as source:
            where = {"base64": source.value}
        case UrlSource() as source:
            where = {"url": source.value}
        case FileSource() as source:
            where = {"file_id": source.value}
    media = {"mime_type": source.mime_type} if source.mime_type else {}
    return {"type": kind, **where, **media}


def shown(messages: Iterable[JsonObject]) -> list[Message]:
    """Messages of a state as a user interface has them."""
    told = (
        _shown(message, str(message.get("id") or f"message-{place}"))
        for place, message in enumerate(messages)
    )
    return [message for message in told if message is not None]


def _shown(message: JsonObject, identity: str) -> Message | None:
    content, name = message.get("content"), message.get("name")
    match message.get("type"):
        case "human":
            return UserMessage(id=identity, content=parts_of(content), name=name)
        case kind if kind in AI:
            calls = [_call(one) for one in message.get("tool_calls") or ()]
            return AssistantMessage(
                id=identity, content=text_of(content), tool_calls=calls or None, name=name
            )
        case "tool":
            answers = str(message.get("tool_call_id") or "")
            failed = text_of(content) or "the tool failed"
            error = failed if message.get("status") == "error" else None
            return ToolMessage(id=identity, content=parts_of(content), tool_call_id=answers, error=error)
        case "system":
            return SystemMessage(id=identity, content=text_of(content), name=name)
        case _:
            return None


def _call(call: JsonObject) -> ToolCall:
    function = FunctionCall(name=str(call.get("name") or ""), arguments=arguments_of(call))
    return ToolCall(id=str(call.get("id") or ""), function=function)


def parts_of(content: Any) -> str | list[ContentPart]:
    """The content of a message: text, or parts where there is more than text."""
    if not isinstance(content, list):
        return text_of(content)
    parts = [part for block in content if (part := _part(block)) is not None]
    if all(part["type"] == "text" for part in parts):
        return text_of(content)
    return _PARTS.validate_python(parts)


def _part(block: Any) -> JsonObject | None:
    if not isinstance(block, dict):
        return {"type": "text", "text": str(block)}
    if block.get("type") == "text":
        return {"type": "text", "text": str(block.get("text", ""))}
    media = block.get("mime_type")
    for key, source in _SOURCES.items():
        # Inline data without a type are no part: the protocol wants one.
        if isinstance(block.get(key), str) and block.get("type") in _KINDS and (media or source != "data"):
            told = {"type": source, "value": block[key], **({"mimeType": str(media)} if media else {})}
            return {"type": _KINDS[block["type"]], "source": told}
    return None
