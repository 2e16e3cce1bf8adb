"""Large states in the event log: what lies in the checkpoints is referred to, not stored again.

Only conversations are referred to, lists of messages of LangChain: what large states are made of, and
what comes back from a checkpoint as exactly the JSON that was streamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import ormsgpack
import structlog
from langchain_core.messages import ToolMessage

from ...checkpoints.database import Database
from ...checkpoints.queries import load_queries
from ...checkpoints.serde import StrictSerializer, UnknownType
from ...checkpoints.thread_rows import thread_key
from ..domain import Event
from ..encoding import MESSAGE_TYPES, encode

log = structlog.get_logger(__name__)
_QUERIES = load_queries(__file__)

LARGE = 32 * 1024
"""Bytes of JSON from which on a state is worth a reference."""
_MARK = b"\x01"
"""No JSON text begins with it."""

VersionOf = Callable[[str, Any], str | None]
"""Version under which this very value of a channel was written to a checkpoint; None when it was not."""


def reference_to(state: Any, version_of: VersionOf) -> bytes | None:
    """What stands for a state in the log; None when all of it has to be stored."""
    if not isinstance(state, dict) or "__interrupt__" in state:
        return None
    parts: list[tuple[str, bytes | None, str | None]] = []
    for channel, value in cast("dict[str, Any]", state).items():
        version = version_of(channel, value) if _is_conversation(value) else None
        parts.append((channel, None if version else encode(value), version))
    if not any(version for _, _, version in parts):
        return None
    return _MARK + ormsgpack.packb(parts)


def is_reference(data: bytes) -> bool:
    """Whether the data of an event stand for a state that lies elsewhere."""
    return data.startswith(_MARK)


@dataclass(slots=True)
class Resolver:
    """Puts back what references of one thread stand for."""

    database: Database
    tenant_id: str
    thread_id: UUID
    _serializer: StrictSerializer = field(default_factory=StrictSerializer)
    _last: dict[tuple[str, str], bytes] = field(default_factory=dict[tuple[str, str], bytes])

    async def resolved(self, event: Event) -> Event | None:
        """The event with its data; None when the state is gone, as after a prune of the thread."""
        if not is_reference(event.data):
            return event
        shown: list[bytes] = []
        for channel, inline, version in ormsgpack.unpackb(event.data[len(_MARK) :]):
            text = inline if version is None else await self._value(channel, version)
            if text is None:
                return None
            shown.append(encode(channel) + b":" + text)
        return replace(event, data=b"{" + b",".join(shown) + b"}")

    async def _value(self, channel: str, version: str) -> bytes | None:
        if (channel, version) in self._last:
            return self._last[channel, version]
        row = await self.database.fetch_one(
            _QUERIES.load_value,
            {"key": thread_key(self.tenant_id, self.thread_id), "channel": channel, "version": version},
        )
        if row is None:
            return None
        try:
            text = encode(self._serializer.loads_typed((row["type"], row["blob"])))
        except UnknownType as error:
            log.warning("state_not_shown", thread_id=str(self.thread_id), channel=channel, error=str(error))
            return None
        self._last = {(channel, version): text}
        return text


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            type(message) in MESSAGE_TYPES
            and not (isinstance(message, ToolMessage) and message.artifact is not None)
            for message in cast("list[Any]", value)
        )
    )
