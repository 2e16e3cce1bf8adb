"""One event of the thread event stream, as the wire has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..encoding import encode


@dataclass(frozen=True, slots=True)
class Shown:
    """An event that has no number yet. Its data may be made when it is asked for: many are only counted."""

    event_id: str
    """The same wherever and whenever it is read; clients know by it what they have."""
    method: str
    namespace: tuple[str, ...]
    at_ms: int
    data: bytes | Callable[[], bytes]
    node: str | None = None

    def text(self) -> bytes:
        """Its data as JSON text."""
        return self.data if isinstance(self.data, bytes) else self.data()

    def to_json(self, seq: int) -> bytes:
        """The whole event as JSON text, under its number."""
        node = b',"node":' + encode(self.node) if self.node is not None else b""
        return (
            b'{"type":"event","event_id":%b,"seq":%d,"method":"%b","params":{"namespace":%b,"timestamp":%d,"data":%b%b}}'
            % (
                encode(self.event_id),
                seq,
                self.method.encode(),
                encode(list(self.namespace)),
                self.at_ms,
                self.text(),
                node,
            )
        )


def object_text(**fields: Any) -> bytes:
    """JSON text of an object; what is None is left out."""
    return encode({name: value for name, value in fields.items() if value is not None})
