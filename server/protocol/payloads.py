"""The data of single events, from what LangGraph streamed. Pure."""

from __future__ import annotations

import re
from typing import Any, TypeGuard

import orjson

from ..encoding import encode

_INTERRUPT = b'"__interrupt__"'
_FIRST_KEY = re.compile(rb'\{"((?:[^"\\]|\\.)*)":')
_SOURCES = frozenset({"input", "loop", "update", "fork"})


def state_shown(data: bytes) -> bytes:
    """A state without the interrupts in it, which have events of their own."""
    if _INTERRUPT not in data:
        return data
    state = orjson.loads(data)
    if isinstance(state, dict):
        state.pop("__interrupt__", None)
    return encode(state)


def checkpoint_text(data: bytes) -> bytes:
    """Which checkpoint, and what came before it; the state follows as `values`."""
    told = orjson.loads(data)
    metadata = told.get("metadata") or {}
    parent = _id_in(told.get("parent_config"))
    source = metadata.get("source")
    return encode(
        {
            "id": _id_in(told.get("config")) or "",
            **({"parent_id": parent} if parent else {}),
            "step": metadata.get("step", -1),
            "source": source if source in _SOURCES else "loop",
        }
    )


def state_checkpoint_text(state: dict[str, Any]) -> bytes:
    """The same of a state that was written from outside."""
    metadata = state.get("metadata") or {}
    parent = state.get("parent_checkpoint_id")
    return encode(
        {
            "id": state["checkpoint_id"],
            **({"parent_id": parent} if parent else {}),
            "step": metadata.get("step", -1),
            "source": metadata.get("source", "update"),
        }
    )


def custom_text(data: bytes) -> bytes:
    """What a node wrote, as the payload.

    What names its channel stands beside the payload too: the Python client gives the reader of a named
    channel the whole data, the JavaScript client the payload.
    """
    if not data.startswith(b"{") or (b'"payload"' not in data and b'"name"' not in data):
        return b'{"payload":%b}' % data
    written = orjson.loads(data)
    is_named = _is_name(written.get("name"))
    if "payload" in written and (is_named or len(written) == 1):
        return data
    return b'%b,"payload":%b}' % (data[:-1], data) if is_named else b'{"payload":%b}' % data


def name_of(custom: bytes) -> str | None:
    """Name of the channel that custom data belong to."""
    name = orjson.loads(custom).get("name") if b'"name"' in custom else None
    return name if _is_name(name) else None


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value)


def node_of(update: bytes) -> str | None:
    """The node that wrote an update."""
    found = _FIRST_KEY.match(update)
    return orjson.loads(b'"%b"' % found[1]) if found else None


def update_text(data: bytes) -> bytes:
    """What a node wrote into the state."""
    written = orjson.loads(data)
    if not isinstance(written, dict) or len(written) != 1:
        return encode({"values": written if isinstance(written, dict) else {"__root__": written}})
    [(node, values)] = written.items()
    if values is None:
        values = {}
    return encode({"node": node, "values": values if isinstance(values, dict) else {"__root__": values}})


def _id_in(config: dict[str, Any] | None) -> str | None:
    return ((config or {}).get("configurable") or {}).get("checkpoint_id")
