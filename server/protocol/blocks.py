"""Messages as content blocks: what streamed pairs of a message and its metadata show as. Pure.

A message in chunks becomes `message-start`, then for each of its blocks a start and deltas, and at its end
the finished blocks and `message-finish`. A message that came whole becomes the same at once. What a node
wrote itself, without a model, is none: it is in the state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage

_TOLD = {"ls_provider": "provider", "ls_model_name": "model", "ls_model_type": "model_type"}
_KEPT = ("run_id", "thread_id", "langgraph_node")
_GROWS = {
    "text": "text",
    "reasoning": "reasoning",
    "tool_call_chunk": "args",
    "server_tool_call_chunk": "args",
}
_DELTA = {"text": "text-delta", "reasoning": "reasoning-delta"}
_HEAVY = frozenset({"data", "base64", "output", "value", "args"})

Frames = list[dict[str, Any]]
Key = tuple[tuple[str, ...], str]
"""Namespace and id of a message."""


class _Block:
    """A block that may grow."""

    __slots__ = ("_fields", "_parts", "index")

    def __init__(self, index: int, block: Mapping[str, Any]) -> None:
        self.index = index
        self._begin(block)

    def _begin(self, block: Mapping[str, Any]) -> None:
        self._fields = dict(block)
        text = block.get(_GROWS.get(block["type"], ""))
        # Joined at the end only: an answer of many tokens must not be copied for each of them.
        self._parts: list[str] = [text] if text else []

    def grow(self, block: Mapping[str, Any]) -> None:
        name = _GROWS.get(block["type"])
        if name is None or self._fields["type"] != block["type"]:
            self._begin(block)
            return
        for key, value in block.items():
            if key != name and value is not None:
                self._fields[key] = value
        if text := block.get(name):
            self._parts.append(text)

    def whole(self) -> dict[str, Any]:
        if not self._parts:
            return self._fields
        return {**self._fields, _GROWS[self._fields["type"]]: "".join(self._parts)}


@dataclass(slots=True)
class _Open:
    """A message that is not finished."""

    blocks: dict[Any, _Block] = field(default_factory=dict[Any, _Block])
    usage: UsageMetadata | None = None

    @property
    def closing(self) -> int:
        return len(self.blocks) + 1


class Messages:
    """The messages of a run; feed it every pair from the run's first."""

    def __init__(self) -> None:
        self._open: dict[Key, _Open] = {}
        self._done: set[Key] = set()

    @property
    def closing(self) -> int:
        """How many frames finish all that is open."""
        return sum(message.closing for message in self._open.values())

    def feed(
        self,
        namespace: tuple[str, ...],
        message: Mapping[str, Any],
        metadata: Mapping[str, Any],
        *,
        spare_id: str,
    ) -> Frames:
        """The frames of one pair; a message without an id gets `spare_id`."""
        identity: str = message.get("id") or spare_id
        key = (namespace, identity)
        if key in self._done:
            return []
        if message.get("type") == "AIMessageChunk":
            frames = self._grown(key, message, metadata)
        elif message.get("type") == "ai" and (key in self._open or _is_of_model(metadata)):
            frames = self._whole(key, AIMessage.model_validate(message), metadata)
        else:
            return []
        return [{**frame, "id": identity} for frame in frames]

    def close(self, *, error: str | None) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        """Finish all that is open: namespace and frame. With `error` the messages break off.

        One that broke off may begin again under the same id, when a model is asked once more.
        """
        for (namespace, identity), message in self._open.items():
            for frame in _finished(message, error=error):
                yield namespace, {**frame, "id": identity}
        self._open.clear()

    def _grown(self, key: Key, message: Mapping[str, Any], metadata: Mapping[str, Any]) -> Frames:
        frames: Frames = []
        opened = self._open.get(key)
        if opened is None:
            opened = self._open[key] = _Open()
            frames.append(_start(key[1], metadata))
        for source, block in _blocks_of_chunk(message):
            frames += _block_frames(opened, source, block)
        if usage := message.get("usage_metadata"):
            opened.usage = add_usage(opened.usage, cast("UsageMetadata", usage))
        if message.get("chunk_position") == "last":
            frames += self._end(key, opened)
        return frames

    def _whole(self, key: Key, message: AIMessage, metadata: Mapping[str, Any]) -> Frames:
        if (opened := self._open.get(key)) is not None:
            return self._end(key, opened)
        opened = _Open(usage=message.usage_metadata)
        frames = [_start(key[1], metadata)]
        blocks = [cast("dict[str, Any]", block) for block in message.content_blocks]
        blocks += [cast("dict[str, Any]", call) for call in message.invalid_tool_calls]
        for place, block in enumerate(blocks):
            frames += _block_frames(opened, place, block)
        return frames + self._end(key, opened)

    def _end(self, key: Key, opened: _Open) -> Frames:
        self._open.pop(key, None)
        self._done.add(key)
        return list(_finished(opened, error=None))


def _is_of_model(metadata: Mapping[str, Any]) -> bool:
    return not _TOLD.keys().isdisjoint(metadata)


def _start(identity: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: metadata[key] for key, name in _TOLD.items() if metadata.get(key) is not None}
    told |= {key: metadata[key] for key in _KEPT if metadata.get(key) is not None}
    frame: dict[str, Any] = {"event": "message-start", "role": "ai", "id": identity}
    return {**frame, "metadata": told} if told else frame


def _blocks_of_chunk(message: Mapping[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    content = message.get("content")
    if (
        isinstance(content, str)
        and not message.get("tool_call_chunks")
        and not message.get("additional_kwargs")
    ):
        # A token: the event that there is most of.
        return [(("text", 0), {"type": "text", "text": content})] if content else []
    chunk = AIMessageChunk.model_validate(message)
    found: list[tuple[Any, dict[str, Any]]] = []
    for place, block in enumerate(cast("list[dict[str, Any]]", chunk.content_blocks)):
        # Providers number the blocks of a message, or send one kind after the other without numbers.
        index = block.get("index")
        found.append(((block["type"], place) if index is None else index, block))
    return found


def _block_frames(opened: _Open, source: Any, block: dict[str, Any]) -> Frames:
    frames: Frames = []
    known = opened.blocks.get(source)
    if known is None:
        known = opened.blocks[source] = _Block(len(opened.blocks), block)
        frames.append({"event": "content-block-start", "index": known.index, "content": _skeleton(block)})
    else:
        known.grow(block)
    if (delta := _delta(block)) is not None:
        frames.append({"event": "content-block-delta", "index": known.index, "delta": delta})
    return frames


def _skeleton(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block as it begins: what grows is empty, what is heavy comes with its end."""
    kind = block["type"]
    if kind == "tool_call_chunk":
        return {"type": kind, "id": block.get("id"), "name": block.get("name"), "args": ""}
    kept = {k: v for k, v in block.items() if k not in _HEAVY and k not in ("index", "annotations")}
    if grows := _GROWS.get(kind):
        kept[grows] = ""
    elif kind in ("tool_call", "server_tool_call"):
        kept["args"] = {}
    elif kind == "non_standard":
        kept["value"] = {}
    elif kind == "invalid_tool_call":
        kept["args"] = None
    return kept


def _delta(block: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = block["type"]
    text = block.get(_GROWS.get(kind, ""))
    if not text:
        return None
    if kind in _DELTA:
        return {"type": _DELTA[kind], kind: text}
    return {"type": "tool-call-delta", "args": text}


def _finished(message: _Open, *, error: str | None) -> Iterator[dict[str, Any]]:
    for block in message.blocks.values():
        yield {"event": "content-block-finish", "index": block.index, "content": _final(block.whole())}
    if error is not None:
        yield {"event": "error", "message": error}
    elif message.usage:
        yield {"event": "message-finish", "usage": message.usage}
    else:
        yield {"event": "message-finish"}


def _final(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = block["type"]
    if kind not in ("tool_call_chunk", "server_tool_call_chunk"):
        return {key: value for key, value in block.items() if key != "index"}
    called = {"id": block.get("id"), "name": block.get("name")}
    text = block.get("args") or ""
    try:
        arguments = json.loads(text or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict) or not called["name"]:
        wrong = "the arguments are no JSON object" if called["name"] else "the call names no tool"
        return {"type": "invalid_tool_call", **called, "args": text, "error": wrong}
    return {"type": kind.removesuffix("_chunk"), **called, "args": arguments}
