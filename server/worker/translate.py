"""What LangGraph streams, as events of the log. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from ...checkpoints.saver import public
from ..domain import EventKind
from ..encoding import encode
from ..records.references import LARGE, VersionOf, reference_to
from ..records.segments import NewEvent

StreamPart = tuple[tuple[str, ...], str, Any]
"""Namespace, stream mode, payload."""

_MODE_OF: Mapping[str, str] = {"messages-tuple": "messages"}
_MESSAGES_AT_ONCE = 64


def graph_modes(asked: Iterable[str]) -> list[str]:
    """LangGraph's stream modes for those of a request; `values` is always among them."""
    modes = ["values"]
    for mode in asked:
        name = _MODE_OF.get(mode, mode)
        if name != "events" and name not in modes:
            modes.append(name)
    return modes


class Translator:
    """Turns what one attempt streams into events.

    LangGraph gives each token of a message with the same metadata object. It is encoded once, since it
    weighs several times what a token does.
    """

    def __init__(self, version_of: VersionOf) -> None:
        self._version_of = version_of
        self._encoded: dict[int, tuple[Mapping[str, Any], bytes]] = {}

    def event_of(self, part: StreamPart) -> NewEvent:
        """The event of one stream part."""
        namespace, mode, payload = part
        match mode:
            case "messages":
                message, metadata = payload
                data = b"[%b,%b]" % (encode(message), self._metadata(metadata))
            case "values" if not namespace:
                data = encode(payload)
                stored = reference_to(payload, self._version_of) if len(data) >= LARGE else None
                return NewEvent("values", data, stored=stored)
            case "checkpoints":
                data = encode(_checkpoint(payload))
            case "debug" if payload["type"] == "checkpoint":
                data = encode({**payload, "payload": _with_places(_checkpoint(payload["payload"]))})
            case _:
                data = encode(payload)
        return NewEvent(cast("EventKind", mode), data, namespace)

    def _metadata(self, metadata: Mapping[str, Any]) -> bytes:
        known = self._encoded.get(id(metadata))
        if known is None:
            if len(self._encoded) >= _MESSAGES_AT_ONCE:
                self._encoded.clear()
            # The object is kept with its text, so nobody else gets its id.
            known = self._encoded[id(metadata)] = (metadata, encode(public(metadata)))
        return known[1]


def runnable_event(event: Mapping[str, Any]) -> NewEvent:
    """The event of one entry of `astream_events`."""
    shown = {**event, "metadata": public(event.get("metadata", {}))}
    return NewEvent(kind="events", data=encode(shown))


def _checkpoint(payload: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(payload)
    for key in ("config", "parent_config"):
        if config := shown.get(key):
            shown[key] = {**config, "configurable": public(config.get("configurable", {}))}
    return shown


def _with_places(payload: dict[str, Any]) -> dict[str, Any]:
    """A debug checkpoint with the places that viewers of threads look for."""
    return {
        **payload,
        "checkpoint": _place(payload.get("config")),
        "parent_checkpoint": _place(payload.get("parent_config")),
        "tasks": [_with_place(task) for task in payload.get("tasks", ())],
    }


def _with_place(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """A task with the place of its sub-graph instead of the config that leads there."""
    if not task.get("state"):
        return task
    return {key: value for key, value in task.items() if key != "state"} | {
        "checkpoint": _place(task["state"])
    }


def _place(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not config:
        return None
    keys = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
    return {key: config["configurable"][key] for key in keys if key in config["configurable"]}
