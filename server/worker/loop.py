"""Keeps runs going: claims them, renews their leases, hears cancels, drains.

Everything here lives on the control loop and only looks at rows; graphs execute on run loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from ...checkpoints.errors import Conflict, DatabaseError, DatabaseUnavailable, FenceLost
from ..domain import Run
from ..records import queue
from ..runs import lifecycle
from ..runs.lifecycle import Crashed, Drained, Finished, Outcome
from . import sweep
from .execute import Cancel, Drain, LeaseLost, Stop, StopReason, Timeout, execute
from .run_loops import RunLoop, TaskCancelled

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

_STOP_GRACE_S = 5.0
"""Time a stopped run has to end by itself; as much again after its task was cancelled."""
_FINISH_DEADLINE_S = 60.0
"""How long the end of a run is tried to be stored while the database does not answer."""
_PATIENCE_S = 1.0
"""A run loop that gives no sign of life for longer is reported as blocked."""
_RECLAIM_EVERY_S = 1.0
_TIDY_EVERY_S = 60.0
_PRESENCE_DEADLINE_S = 5.0


@dataclass(slots=True, eq=False)
class _Held:
    """A run that this worker executes."""

    run: Run
    stop: Stop
    loop: RunLoop
    outcome: asyncio.Future[Outcome]
    cancel_task: Callable[[], None]
    lease_ends: float
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    reason: StopReason | None = None


class Worker:
    """Executes runs until it is told to drain; `resources` are those of the control loop."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.settings = resources.settings.worker
        self.worker_id = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self.ready = asyncio.Event()
        self._held: dict[UUID, _Held] = {}
        self._loops: list[RunLoop] = []
        self._loops_made = 0
        self._wake = asyncio.Event()
        self._draining = asyncio.Event()
        self._check = asyncio.Event()
        self._suspects: set[UUID] = set()
        self._more_waiting = True

    @property
    def running(self) -> list[Run]:
        """The runs that are executed now."""
        return [held.run for held in self._held.values()]

    def request_drain(self) -> None:
        """Claim nothing more, hand back what runs, and let `run` return."""
        self._draining.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until drained.

        Raises:
            DatabaseUnavailable: the database did not answer at the start.
        """
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(self.settings.slots if self.settings.isolated_loops else self.settings.run_loops):
                await self._add_loop()
            stack.push_async_callback(self._stop_loops)
            stack.callback(self.resources.wakeups.listen("interlock_runs", self._on_runs))
            stack.callback(self.resources.wakeups.listen("interlock_cancel", self._on_cancel))
            await self._announce_presence()
            await sweep.reclaim(self.resources, without_worker=True)
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._heartbeat(), name="heartbeat"),
                    group.create_task(self._watch_loops(), name="watchdog"),
                    group.create_task(self._sweep(), name="sweep"),
                ]
                self.ready.set()
                log.info(
                    "worker_ready", worker=self.worker_id, slots=self.settings.slots, loops=len(self._loops)
                )
                await self._claim_until_drained(group)
                await self._drain()
                for task in background:
                    task.cancel()
        log.info("worker_drained", worker=self.worker_id)

    async def _announce_presence(self) -> None:
        """Be seen as alive before holding a lease. Without a direct connection leases must do."""
        self.resources.wakeups.be_present(self.worker_id)
        try:
            await asyncio.wait_for(self.resources.wakeups.connected.wait(), _PRESENCE_DEADLINE_S)
        except TimeoutError:
            log.warning("worker_not_present", hint="database.direct_url must reach Postgres itself")

    # --- claiming ------------------------------------------------------------------------------

    async def _claim_until_drained(self, group: asyncio.TaskGroup) -> None:
        while not self._draining.is_set():
            self._wake.clear()
            free = self.settings.slots - len(self._held)
            if free > 0:
                claimed = await self._claim(free)
                for run in claimed:
                    self._start(run, group)
                # A free slot is worth a look only if the queue gave all we asked for; else a
                # notification tells when there is more.
                self._more_waiting = len(claimed) == free
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self.settings.poll_s)

    async def _claim(self, slots: int) -> list[Run]:
        try:
            async with self.resources.database.connection() as connection:
                claimed = await queue.claim(
                    connection, worker_id=self.worker_id, slots=slots, lease_s=self.settings.lease_s
                )
                if not claimed and (due := await queue.next_due(connection)) is not None:
                    self._wake_in(due)
                return claimed
        except Conflict:
            # Two workers met on one thread; the index let one of them pass.
            self._wake_in(0.01)
        except DatabaseUnavailable as error:
            log.warning("claim_failed", error=str(error))
        return []

    def _start(self, run: Run, group: asyncio.TaskGroup) -> None:
        stop = Stop()
        loop = min((loop for loop in self._loops if not loop.given_up), key=lambda loop: loop.runs)
        outcome, cancel_task = loop.start_task(
            lambda resources: execute(resources, run, stop), name=f"run {run.run_id}"
        )
        held = _Held(
            run=run,
            stop=stop,
            loop=loop,
            outcome=outcome,
            cancel_task=cancel_task,
            lease_ends=time.monotonic() + self.settings.lease_s,
        )
        loop.runs += 1
        self._held[run.run_id] = held
        group.create_task(self._carry(held), name=f"carry {run.run_id}")

    def _wake_in(self, seconds: float) -> None:
        if seconds < self.settings.poll_s:
            asyncio.get_running_loop().call_later(max(seconds, 0.0), self._wake.set)

    def _on_runs(self, payload: str) -> None:
        if payload:
            asyncio.get_running_loop().call_later(float(payload), self._wake.set)
        else:
            self._wake.set()

    def _on_cancel(self, payload: str) -> None:
        suspects = set(self._held) if not payload else {UUID(payload)} & set(self._held)
        if suspects:
            self._suspects |= suspects
            self._check.set()

    # --- carrying one run to its end -------------------------------------------------------------

    async def _carry(self, held: _Held) -> None:
        try:
            outcome = await self._outcome(held)
        finally:
            held.loop.runs -= 1
            del self._held[held.run.run_id]
            if self._more_waiting:
                self._wake.set()
        await self._store(held.run, outcome)

    async def _outcome(self, held: _Held) -> Outcome:
        """Wait for the end of a run; a stopped one gets a grace, then it is abandoned."""
        timeout = asyncio.get_running_loop().call_later(
            self.settings.run_timeout_s, self._stop, held, Timeout(self.settings.run_timeout_s)
        )
        stopped = asyncio.ensure_future(held.stopped.wait())
        try:
            await asyncio.wait({held.outcome, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timeout.cancel()
            stopped.cancel()
        if not held.outcome.done():
            grace = self.settings.drain_grace_s if isinstance(held.reason, Drain) else _STOP_GRACE_S
            await asyncio.wait({held.outcome}, timeout=grace)
        if not held.outcome.done():
            held.cancel_task()
            await asyncio.wait({held.outcome}, timeout=_STOP_GRACE_S)
        if not held.outcome.done():
            self._abandon(held)
            return _outcome_without_answer(held)
        error = held.outcome.exception()
        if error is None:
            return held.outcome.result()
        if isinstance(error, TaskCancelled):
            return _outcome_without_answer(held)
        log.error("run_broke_off", run_id=str(held.run.run_id), graph_id=held.run.graph_id, exc_info=error)
        return Crashed(cause=f"{type(error).__name__}: {error}")

    def _abandon(self, held: _Held) -> None:
        """Leave a run behind whose code does not let go: its thread stays, its slot does not."""
        log.error(
            "run_abandoned", run_id=str(held.run.run_id), graph_id=held.run.graph_id, reason=str(held.reason)
        )
        held.loop.forget_threads()
        if held.loop.ping(patience_s=_PATIENCE_S) is None:
            return
        held.loop.given_up = True
        for other in list(self._held.values()):
            if other.loop is held.loop and other is not held:
                # Hostages of the blocked loop: they go on elsewhere from their checkpoints.
                self._stop(other, Drain())

    async def _store(self, run: Run, outcome: Outcome) -> None:
        """Record the outcome, through an outage of the database if need be."""
        ends = time.monotonic() + _FINISH_DEADLINE_S
        pause = 0.05
        while True:
            try:
                return await lifecycle.finish(self.resources, run, outcome)
            except FenceLost:
                log.info("outcome_not_ours", run_id=str(run.run_id), outcome=type(outcome).__name__)
                return None
            except DatabaseUnavailable as error:
                if time.monotonic() > ends:
                    log.error("outcome_lost", run_id=str(run.run_id), error=str(error))
                    return None
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
            except DatabaseError as error:
                # What the graph left cannot be stored; the run must still come to an end.
                log.exception("outcome_refused", run_id=str(run.run_id))
                if isinstance(outcome, Crashed):
                    return None
                outcome = Crashed(cause=str(error))

    # --- leases --------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        every = self.settings.lease_s / 3
        due = time.monotonic() + every
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._check.wait(), max(due - time.monotonic(), 0.0))
            self._check.clear()
            suspects, self._suspects = self._suspects, set()
            if time.monotonic() >= due:
                due = time.monotonic() + every
                suspects = set(self._held)
            await self._renew([self._held[run_id] for run_id in suspects if run_id in self._held])

    async def _renew(self, held: list[_Held]) -> None:
        if not held:
            return
        asked = time.monotonic()
        usages = {h.run.run_id: usage for h in held if (usage := h.stop.usage) is not None}
        try:
            async with self.resources.database.connection() as connection:
                states = await queue.renew(
                    connection, [h.run for h in held], usages=usages, lease_s=self.settings.lease_s
                )
        except DatabaseUnavailable as error:
            log.warning("heartbeat_failed", error=str(error), runs=len(held))
            states = []
        by_id = {h.run.run_id: h for h in held}
        for state in states:
            if state.renewed:
                by_id[state.run_id].lease_ends = asked + self.settings.lease_s
            elif not state.held:
                self._stop(by_id[state.run_id], _why(state))
        for h in held:
            if h.lease_ends < time.monotonic():
                self._stop(h, LeaseLost())

    def _stop(self, held: _Held, reason: StopReason) -> None:
        if held.reason is None:
            held.reason = reason
            log.info("run_stopped", run_id=str(held.run.run_id), reason=str(reason))
        held.stop.set(reason)
        held.stopped.set()

    # --- looking after the rest ------------------------------------------------------------------

    async def _drain(self) -> None:
        for held in list(self._held.values()):
            self._stop(held, Drain())
        while self._held:
            await asyncio.wait({held.outcome for held in self._held.values()}, timeout=0.1)

    async def _watch_loops(self) -> None:
        while True:
            for loop in self._loops:
                loop.ping(patience_s=_PATIENCE_S)
            for loop in [loop for loop in self._loops if loop.given_up]:
                self._loops.remove(loop)
                await self._add_loop()
            await asyncio.sleep(_PATIENCE_S / 4)

    async def _sweep(self) -> None:
        tidied = 0.0
        while True:
            try:
                await sweep.reclaim(self.resources)
                if time.monotonic() - tidied > _TIDY_EVERY_S:
                    await sweep.tidy(self.resources)
                    tidied = time.monotonic()
            except DatabaseError as error:
                log.warning("sweep_failed", error=str(error))
            await asyncio.sleep(_RECLAIM_EVERY_S)

    async def _add_loop(self) -> None:
        self._loops_made += 1
        pool = max(2, self.resources.settings.database.pool_max // (4 if self.settings.isolated_loops else 1))
        loop = RunLoop(
            f"run-loop-{self._loops_made}",
            self.resources.settings,
            hub=self.resources.hub,
            catalog=self.resources.catalog,
            pool_max=pool,
        )
        await loop.start()
        self._loops.append(loop)

    async def _stop_loops(self) -> None:
        await asyncio.gather(*(loop.stop() for loop in self._loops))


def _why(state: queue.LeaseState) -> StopReason:
    """Why a run is no longer ours."""
    if state.status is None:
        return Cancel("rollback")
    return Cancel("interrupt") if state.status == "interrupted" else LeaseLost()


def _outcome_without_answer(held: _Held) -> Outcome:
    """The outcome of a run that was stopped and never told how far it came."""
    match held.reason:
        case Drain():
            return Drained(usage=held.stop.usage or held.run.usage)
        case Timeout():
            message = f"the run did not end within {held.reason.seconds:g} s"
            return Finished(
                status="timeout",
                error={"error": "RunTimeout", "message": message},
                usage=held.stop.usage or held.run.usage,
            )
        case Cancel() | LeaseLost():
            return lifecycle.LeaseLost()
        case None:
            return Crashed(cause="its task was cancelled from outside")
