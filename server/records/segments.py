"""Events packed into the body of a segment row and back. Pure."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import ormsgpack
import zstandard

from ...checkpoints.errors import SealingFailed
from ...checkpoints.sealed import Context, SealedBlob, sealed_blob, unreadable
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
    shows: int = 0
    """How many events the thread event stream shows of it."""


class Last(NamedTuple):
    """Where a log stands after an append."""

    seq: int
    shown: int
    """Number of the last event of the thread event stream."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Last:
        """From what a statement that appends returns."""
        return cls(row["last_seq"], row["last_shown"])


def shown(events: Sequence[NewEvent]) -> int:
    """How many events the thread event stream shows of all these."""
    return sum(event.shows for event in events)


# A compressor belongs to one thread at a time; runs are executed on several.
_of_thread = threading.local()


def pack(events: Sequence[NewEvent]) -> tuple[int, bytes]:
    """Codec and body of the segment that holds `events`."""
    body = ormsgpack.packb([(e.kind, e.namespace, e.stored or e.data, e.at_ms, e.shows) for e in events])
    if len(body) < _WORTH_COMPRESSING:
        return PLAIN, body
    compressor = getattr(_of_thread, "compressor", None)
    if compressor is None:
        compressor = _of_thread.compressor = zstandard.ZstdCompressor(level=1)
    compressed = compressor.compress(body)
    return (COMPRESSED, compressed) if len(compressed) < len(body) * 0.9 else (PLAIN, body)


def sealed_body(packed: bytes, *, context: Context | None = None) -> SealedBlob:
    """The body of a segment as a parameter, sealed with the context of this task unless one is given."""
    return sealed_blob("event", "body", packed, context=context)


def numbered(
    events: Sequence[NewEvent], *, first_seq: int, first_shown: int, run_id: UUID | None
) -> tuple[Event, ...]:
    """The events as readers get them, once their numbers are known."""
    found: list[Event] = []
    for seq, e in enumerate(events, first_seq):
        found.append(Event(seq, run_id, e.kind, e.namespace, e.data, e.at_ms, e.shows, first_shown))
        first_shown += e.shows
    return tuple(found)


def unpack(row: Mapping[str, Any]) -> list[Event]:
    """The events of a row of `interlock.event_segments`.

    Raises:
        SealingFailed: they cannot be decrypted.
    """
    body: bytes = row["body"]
    if reason := unreadable(body):
        raise SealingFailed(reason)
    if row["codec"] == COMPRESSED:
        decompressor = getattr(_of_thread, "decompressor", None)
        if decompressor is None:
            decompressor = _of_thread.decompressor = zstandard.ZstdDecompressor()
        body = decompressor.decompress(body, max_output_size=_LARGEST_BODY)
    run_id: UUID | None = row["run_id"]
    first_shown: int = row["first_shown"]
    found: list[Event] = []
    for seq, (kind, namespace, data, at_ms, shows) in enumerate(ormsgpack.unpackb(body), row["first_seq"]):
        found.append(Event(seq, run_id, kind, tuple(namespace), data, at_ms, shows, first_shown))
        first_shown += shows
    return found
