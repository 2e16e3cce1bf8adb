"""The `messages` stream mode: message chunks as growing messages.

The log holds what LangGraph streamed, pairs of a message or chunk and its metadata. The mode shows
each message once with its metadata (`messages/metadata`), then either its growing text
(`messages/partial`, for a message that came in chunks) or the whole of it (`messages/complete`).
"""

from __future__ import annotations

from typing import Any

import orjson
from langchain_core.messages import AIMessageChunk, message_chunk_to_message

from ..encoding import encode

_CHUNK = "AIMessageChunk"


class GrowingMessages:
    """What the messages of a run have grown to; feed it every `messages` event from the run's first."""

    def __init__(self) -> None:
        self._chunks: dict[str, AIMessageChunk] = {}
        self._announced: set[str] = set()

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take one logged pair and return the frames it shows as: event name and JSON text."""
        message, metadata = orjson.loads(data)
        identity: str = message.get("id") or ""
        frames: list[tuple[str, bytes]] = []
        if identity not in self._announced:
            self._announced.add(identity)
            frames.append(("messages/metadata", orjson.dumps({identity: {"metadata": metadata}})))
        if message.get("type") == _CHUNK:
            frames.append(
                ("messages/partial", encode([message_chunk_to_message(self._grow(identity, message))]))
            )
        else:
            self._chunks.pop(identity, None)
            frames.append(("messages/complete", orjson.dumps([message])))
        return frames

    def _grow(self, identity: str, message: dict[str, Any]) -> AIMessageChunk:
        chunk = AIMessageChunk.model_validate(message)
        so_far = self._chunks.get(identity)
        grown = chunk if so_far is None else so_far + chunk
        assert isinstance(grown, AIMessageChunk)
        self._chunks[identity] = grown
        return grown
