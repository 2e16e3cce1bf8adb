"""What one run appends to the event log with one flush."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from ...checkpoints.sealed import Context, current_context
from ...checkpoints.sealer import Sealer
from .segments import Last, NewEvent, pack, sealed_body, shown


@dataclass(slots=True, eq=False)
class Part:
    """Events of one run on their way, and who waits until they are stored."""

    tenant_id: str
    thread_id: UUID
    run_id: UUID
    fence: int
    events: list[NewEvent]
    stored: asyncio.Future[Last]
    closing: int = 0
    codec: int = 0
    body: bytes = b""
    context: Context = field(default_factory=current_context)
    """What they are sealed with: that of the run, not of whoever flushes."""
    weight: int = field(init=False)

    def __post_init__(self) -> None:
        self.weight = sum(len(event.data) for event in self.events)

    async def pack(self, sealer: Sealer | None) -> None:
        """Pack and seal the events, once for all tries: by these bytes one knows that they were stored.

        Raises:
            SealingFailed: the project's handler failed.
        """
        self.codec, packed = pack(self.events)
        body = sealed_body(packed, context=self.context)
        self.body = packed if sealer is None else await sealer.sealed(body)

    def parameters(self) -> dict[str, object]:
        """Parameters of the statements that store it alone."""
        return {
            "tenant_id": self.tenant_id,
            "thread_id": self.thread_id,
            "run_id": self.run_id,
            "fence": self.fence,
            "count": len(self.events),
            "shown": shown(self.events),
            "closing": self.closing,
            "codec": self.codec,
            "body": self.body,
        }
