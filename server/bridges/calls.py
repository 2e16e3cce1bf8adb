"""One run for a client of another protocol: let in like any other, and what it came to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from ..api.callers import Caller
from ..api.following import last_values, start_request, stop_on_leave
from ..api.held import OnLeave
from ..domain import Event, Run
from ..errors import NotFound
from ..records import threads as thread_rows
from ..runs import threads
from ..runs.admission import RunRequest
from ..wire.run_stream import answer, beginning

INTERRUPTS = "__interrupt__"


@dataclass(slots=True)
class Call:
    """A run, and whether its thread was made for it alone."""

    caller: Caller
    run: Run
    passing: bool
    """The thread goes when the run has ended, unless somebody has to decide something on it."""
    settled: bool = False
    """What becomes of the thread is decided."""

    @property
    def thread(self) -> dict[str, Any]:
        """The key of the thread."""
        return {"tenant_id": self.run.tenant_id, "thread_id": self.run.thread_id}

    def events(self, *, whole: bool) -> contextlib.aclosing[AsyncGenerator[Sequence[Event], None]]:
        """What is logged of the run, from its beginning to its end; `whole`: with every large state."""
        log, run = self.caller.resources.event_log, self.run
        return contextlib.aclosing(
            log.follow(**self.thread, run_id=run.run_id, after=beginning(run).seq, whole=whole)
        )

    def on_leave(self) -> OnLeave:
        """What stops the run when its client goes."""
        return self.discard if self.passing else stop_on_leave(self.caller, self.run)

    async def discard(self) -> None:
        """Delete a passing thread; if its run is under way, that is stopped."""
        # A client that has its answer leaves as well.
        if self.passing and not self.settled:
            self.settled = True
            with contextlib.suppress(NotFound):
                await threads.delete(self.caller.resources, **self.thread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to."""

    status: Literal["finished", "waiting", "failed", "cancelled"]
    """waiting: somebody has to answer, or to let it go on."""
    values: Any
    """Its last state, without what it asks."""
    interrupts: list[dict[str, Any]]
    """What it asks, each `{"id", "value"}`."""
    error: dict[str, str] | None
    """`{"error": class name, "message": text}` of a run that failed or was stopped."""

    @property
    def failure(self) -> str:
        """The error in one line."""
        return f"{self.error['error']}: {self.error['message']}" if self.error else ""


async def begin(caller: Caller, request: RunRequest) -> Call:
    """Let a run in. Without a thread it gets one, which passes with it unless it has to wait.

    Raises:
        ServerError: refused; nothing was stored.
    """
    caller.must("threads", "create_run")
    passing = request.thread_id is None
    # Kept at first: on a thread that goes with its run nobody could answer what it asks.
    run = await start_request(caller, replace(request, on_completion="keep"), awaited=True)
    return Call(caller, run, passing)


async def outcome_of(call: Call) -> Outcome:
    """Follow a run to its end; a passing thread is deleted then, unless somebody is asked on it."""
    outcome = await _outcome(call)
    if outcome.status != "waiting":
        await call.discard()
    call.settled = True
    return outcome


async def _outcome(call: Call) -> Outcome:
    came_to = await answer(call.caller.resources.event_log, call.run)
    if came_to.cancelled:
        error = came_to.error or {"error": "UserInterrupt", "message": "the run was cancelled"}
        return Outcome(status="cancelled", values={}, interrupts=[], error=error)
    if came_to.error is not None:
        return Outcome(status="failed", values={}, interrupts=[], error=came_to.error)
    values = orjson.loads(await last_values(call.caller, call.run, came_to))
    interrupts: list[dict[str, Any]] = values.pop(INTERRUPTS, []) if isinstance(values, dict) else []
    waits = bool(interrupts) or await _stands_at_breakpoint(call)
    return Outcome(
        status="waiting" if waits else "finished", values=values, interrupts=interrupts, error=None
    )


async def _stands_at_breakpoint(call: Call) -> bool:
    """Whether a run stopped before a node without asking anything, as a graph may be compiled to do."""
    async with call.caller.database.connection() as connection:
        found = await thread_rows.get(connection, **call.thread)
    return found is not None and found.status == "interrupted"
