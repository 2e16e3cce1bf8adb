"""Events packed into the body of a segment row and back. Pure."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import ormsgpack
import zstandard

from ..domain import Event, EventKind

PLAIN = 0
COMPRESSED = 1
_WORTH_COMPRESSING = 400
_LARGEST_BODY = 1 << 30


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that has no number yet."""

    kind: EventKind
    data: bytes
    """JSON text."""
    namespace: tuple[str, ...] = ()
    stored: bytes | None = None
    """What the log holds instead of `data`: see `references`."""
    at_ms: int = field(default_factory=_now_ms)


# A compressor belongs to one thread at a time; runs are executed on several.
_of_thread = threading.local()


def pack(events: Sequence[NewEvent]) -> tuple[int, bytes]:
    """Codec and body of the segment that holds `events`."""
    body = ormsgpack.packb([(e.kind, e.namespace, e.stored or e.data, e.at_ms) for e in events])
    if len(body) < _WORTH_COMPRESSING:
        return PLAIN, body
    compressor = getattr(_of_thread, "compressor", None)
    if compressor is None:
        compressor = _of_thread.compressor = zstandard.ZstdCompressor(level=1)
    compressed = compressor.compress(body)
    return (COMPRESSED, compressed) if len(compressed) < len(body) * 0.9 else (PLAIN, body)


def numbered(events: Sequence[NewEvent], *, first_seq: int, run_id: UUID | None) -> tuple[Event, ...]:
    """The events as readers get them, once their numbers are known."""
    return tuple(
        Event(seq, run_id, e.kind, e.namespace, e.data, e.at_ms) for seq, e in enumerate(events, first_seq)
    )


def unpack(row: Mapping[str, Any]) -> list[Event]:
    """The events of a row of `interlock.event_segments`."""
    body: bytes = row["body"]
    if row["codec"] == COMPRESSED:
        decompressor = getattr(_of_thread, "decompressor", None)
        if decompressor is None:
            decompressor = _of_thread.decompressor = zstandard.ZstdDecompressor()
        body = decompressor.decompress(body, max_output_size=_LARGEST_BODY)
    run_id: UUID | None = row["run_id"]
    return [
        Event(seq, run_id, kind, tuple(namespace), data, at_ms)
        for seq, (kind, namespace, data, at_ms) in enumerate(ormsgpack.unpackb(body), row["first_seq"])
    ]
