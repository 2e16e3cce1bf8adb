"""What models and tools say in a run, piece by piece, as events of AG-UI that open and close in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from ag_ui.core import (
    BaseEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
    aggregate_token_usage,
    token_usage_from_langchain_metadata,
)

from ...encoding import JsonObject
from ..speech import AI, arguments_of, text_of
from .messages import parts_of


class Words:
    """One thing is open at a time: a message that grows, or a call whose arguments grow."""

    def __init__(self) -> None:
        self._message: str | None = None
        self._call: str | None = None
        self._calls: dict[tuple[str, Any], str] = {}
        """Calls that come in pieces: by message and index, since only their first piece has the id."""
        self._spent: list[TokenUsage] = []

    @property
    def usage(self) -> list[TokenUsage]:
        """What the models of the run spent, as far as they told."""
        return aggregate_token_usage(self._spent)

    def events(self, message: JsonObject, metadata: JsonObject) -> Iterator[BaseEvent]:
        """The events of a message, or of a piece of one."""
        kind = message.get("type")
        if kind == "tool":
            yield from self.closed()
            yield ToolCallResultEvent(
                message_id=str(message.get("id") or uuid4()),
                tool_call_id=str(message.get("tool_call_id") or ""),
                content=parts_of(message.get("content")),
                role="tool",
            )
        if kind not in AI:
            return
        identity = str(message.get("id") or "message")
        yield from self._text(identity, text_of(message.get("content")))
        if kind == "AIMessageChunk":
            yield from self._pieces(identity, message.get("tool_call_chunks") or ())
        else:
            for call in message.get("tool_calls") or ():
                yield from self._opened(identity, str(call.get("id")), str(call.get("name")))
                yield ToolCallArgsEvent(tool_call_id=str(call.get("id")), delta=arguments_of(call))
        self._count(message, metadata)

    def closed(self) -> Iterator[BaseEvent]:
        """Close what is open."""
        if self._message is not None:
            yield TextMessageEndEvent(message_id=self._message)
        if self._call is not None:
            yield ToolCallEndEvent(tool_call_id=self._call)
        self._message = self._call = None

    def _text(self, identity: str, text: str) -> Iterator[BaseEvent]:
        if not text:
            return
        if self._message != identity:
            yield from self.closed()
            self._message = identity
            yield TextMessageStartEvent(message_id=identity, role="assistant")
        yield TextMessageContentEvent(message_id=identity, delta=text)

    def _pieces(self, identity: str, pieces: Any) -> Iterator[BaseEvent]:
        for piece in pieces:
            place = (identity, piece.get("index"))
            call_id = piece.get("id") or self._calls.get(place)
            if call_id is None:
                continue
            if self._calls.get(place) != call_id or call_id != self._call:
                self._calls[place] = call_id
                yield from self._opened(identity, call_id, str(piece.get("name") or ""))
            if piece.get("args"):
                yield ToolCallArgsEvent(tool_call_id=call_id, delta=piece["args"])

    def _opened(self, identity: str, call_id: str, name: str) -> Iterator[BaseEvent]:
        yield from self.closed()
        self._call = call_id
        yield ToolCallStartEvent(tool_call_id=call_id, tool_call_name=name, parent_message_id=identity)

    def _count(self, message: JsonObject, metadata: JsonObject) -> None:
        spent = token_usage_from_langchain_metadata(
            message.get("usage_metadata"),
            provider=metadata.get("ls_provider"),
            model=metadata.get("ls_model_name"),
        )
        if spent is not None:
            self._spent.append(spent)
