"""How an attempt is stopped from outside: once, with a reason, from any thread."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

from langgraph.runtime import RunControl

from ...tools.policy.budget import Meter
from ..domain import CancelAction, Run
from ..runs.lifecycle import Crashed, Drained, Finished, LeaseLost, Outcome


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody cancelled the run, or a newer run took its place."""

    action: CancelAction


@dataclass(frozen=True, slots=True)
class Drain:
    """The worker ends in good order: stop at the next superstep, another worker goes on."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease was taken or has run out: stop at once and write nothing more."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """The run took longer than it may."""

    seconds: float


StopReason = Cancel | Drain | Lost | Timeout


class Stop:
    """The wish that an attempt ends. A drain lets it come to its superstep; every other reason does not."""

    def __init__(self) -> None:
        self.control = RunControl()
        self.meter: Meter | None = None
        self._reason: StopReason | None = None
        self._attached: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._lock = threading.Lock()

    @property
    def reason(self) -> StopReason | None:
        """Why the attempt shall end; None while it may go on."""
        return self._reason

    @property
    def usage(self) -> dict[str, Any] | None:
        """What the run has spent up to now; None before it began."""
        return self.meter.usage.to_row() if self.meter is not None else None

    def set(self, reason: StopReason) -> None:
        """Ask the attempt to end. A reason replaces a drain, and nothing else."""
        with self._lock:
            if self._reason is not None and not isinstance(self._reason, Drain):
                return
            self._reason = reason
            attached = self._attached
        if isinstance(reason, Drain):
            self.control.request_drain("shutdown")
        elif attached is not None:
            _cancel(*attached)

    def attach(self, task: asyncio.Task[Any]) -> None:
        """Cancel `task`, of the calling loop, when the reason does not wait; at once if it is set already."""
        attached = (asyncio.get_running_loop(), task)
        with self._lock:
            self._attached = attached
            reason = self._reason
        if reason is not None and not isinstance(reason, Drain):
            _cancel(*attached)

    def detach(self) -> None:
        """The attempt has come to its end by itself."""
        with self._lock:
            self._attached = None


def outcome_of_stopped(run: Run, stop: Stop) -> Outcome:
    """The outcome of an attempt that was stopped where it stood."""
    usage = stop.usage or run.usage
    match stop.reason:
        case Drain() | Lost():
            # A lease that ran out during an outage may still be ours to give back, at no cost to the run;
            # the fence tells.
            return Drained(usage=usage)
        case Timeout(seconds):
            error = {"error": "RunTimeout", "message": f"the run did not end within {seconds:g} s"}
            return Finished(status="timeout", error=error, usage=usage)
        case Cancel():
            # Whoever cancelled has written the end already.
            return LeaseLost()
        case None:
            return Crashed(cause="its task was cancelled from outside", usage=usage)


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)
