"""A run in the hands of this worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ..domain import Run
from ..records.queue import LeaseState
from ..runs.lifecycle import Outcome
from .run_loops import RunLoop
from .stop import Cancel, Lost, Stop, StopReason

STOP_GRACE_S = 5.0
"""Time a stopped run has to end by itself."""


@dataclass(slots=True, eq=False, kw_only=True)
class Held:
    """A run that this worker executes, seen from the control loop."""

    run: Run
    stop: Stop
    loop: RunLoop
    outcome: asyncio.Future[Outcome]
    cancel_task: Callable[[], None]
    lease_ends: float
    """On the monotonic clock."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    grace_s: float = STOP_GRACE_S

    @property
    def usage(self) -> dict[str, object]:
        """What the run has spent as far as is known."""
        return self.stop.usage or self.run.usage


def why_lost(state: LeaseState) -> StopReason:
    """Why a run is no longer ours, by what its row says now."""
    if state.status is None:
        return Cancel("rollback")
    return Cancel("interrupt") if state.status == "interrupted" else Lost()
