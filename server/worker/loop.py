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
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from ...checkpoints.database import Database
from ...checkpoints.errors import Conflict, DatabaseError, DatabaseUnavailable, FenceLost
from ..domain import Run
from ..endings import end_all
from ..records import queue
from ..runs import lifecycle, threads
from ..runs.lifecycle import Crashed, Drained, Outcome
from . import crons, sweep
from .deliveries import Deliverer
from .execute import execute
from .held import STOP_GRACE_S, Held, why_lost
from .run_loops import RunLoops, TaskCancelled
from .stop import Drain, Lost, Stop, StopReason, Timeout, outcome_of_stopped

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

_CANCEL_GRACE_S = 2.0
"""Time it has once more after its task was cancelled; then it is left behind."""
_FINISH_DEADLINE_S = 60.0
"""How long the end of a run is tried to be stored while the database does not answer."""
_PATIENCE_S = 1.0
"""A run loop that gives no sign of life for longer is reported as blocked."""
_CUT_OFF_PAUSE_S = 1.0
"""Before a run goes back that lost the database; what fails at once must not turn in circles."""
_RETRY_HEARTBEAT_S = 0.5
_RECLAIM_EVERY_S = 1.0
_TIDY_EVERY_S = 60.0
_EMBED_EVERY_S = 20.0
_PRESENCE_DEADLINE_S = 5.0


class Worker:
    """Executes runs, and sends their webhooks, until it is told to drain.

    `resources` are those of the control loop; `own_app` is the project's own ASGI app, where this process
    serves it.
    """

    def __init__(self, resources: Resources, *, own_app: Any = None) -> None:
        self.resources = resources
        self._deliverer = Deliverer(resources, app=own_app)
        self.settings = resources.settings.worker
        self.worker_id = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self.ready = asyncio.Event()
        # By the task that carries it: a run that was handed back can be claimed again before its
        # former task has ended.
        self._held: dict[asyncio.Task[None], Held] = {}
        # Apart from the pool of the API, which slow queries can use up: leases cannot wait for them.
        self._leases = Database(
            resources.database.url,
            max_size=2,
            application_name="interlock-leases",
            sealer=resources.database.sealer,
        )
        self._loops = RunLoops(resources)
        self._wake = asyncio.Event()
        self._draining = asyncio.Event()
        self._check = asyncio.Event()
        self._suspects: set[Held] = set()
        self._lent: Counter[UUID] = Counter()
        """Runs that wait for this server itself, and for how many answers."""
        self._more_waiting = True

    @property
    def running(self) -> list[Run]:
        """The runs that are executed now."""
        return [held.run for held in self._held.values()]

    def request_drain(self) -> None:
        """Claim nothing more, hand back what runs, and let `run` return."""
        self._draining.set()
        self._wake.set()
        self._deliverer.request_drain()

    def lend(self, run_id: UUID) -> None:
        """A run waits for this server, perhaps for a run that has no slot: another one may have its own."""
        self._lent[run_id] += 1
        self._wake.set()

    def take_back(self, run_id: UUID) -> None:
        """The run goes on. For a while there may be more at work than slots; then none is claimed."""
        self._lent[run_id] -= 1
        if not self._lent[run_id]:
            del self._lent[run_id]

    async def run(self) -> None:
        """Work until drained.

        Raises:
            DatabaseUnavailable: the database did not answer at the start.
        """
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._leases)
            stack.push_async_callback(self._loops.stop)
            await self._loops.start()
            reclaim = sweep.Reclaim(carries=self._carries)
            threads_s = self.resources.settings.thread_ttl.sweep_interval_minutes * 60
            stack.callback(self.resources.wakeups.listen("interlock_runs", self._on_runs))
            stack.callback(self.resources.wakeups.listen("interlock_cancel", self._on_cancel))
            present = await self._announce_presence()
            expiry_s = self.resources.settings.store.ttl.sweep_interval_minutes * 60
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._heartbeat(), name="heartbeat"),
                    group.create_task(self._watch_loops(), name="watchdog"),
                    group.create_task(self._every(_RECLAIM_EVERY_S, reclaim.expired), name="reclaim"),
                    group.create_task(self._every(_TIDY_EVERY_S, sweep.tidy), name="tidy"),
                    group.create_task(self._every(expiry_s, sweep.expire_items), name="expire-items"),
                    group.create_task(self._every(threads_s, threads.sweep_expired), name="expire-threads"),
                    group.create_task(crons.keep_firing(self.resources), name="crons"),
                ]
                if index := self.resources.catalog.index:
                    embed = sweep.EmbedItems(self.resources.database, index).round
                    background.append(
                        group.create_task(self._every(_EMBED_EVERY_S, embed), name="embed-items")
                    )
                if present:
                    orphans = sweep.reclaim_orphans(self.resources, carries=self._carries)
                    background.append(group.create_task(orphans, name="orphans"))
                group.create_task(self._deliverer.run(), name="webhooks")
                self.ready.set()
                log.info(
                    "worker_ready", worker=self.worker_id, slots=self.settings.slots, loops=len(self._loops)
                )
                await self._claim_until_drained(group)
                await self._drain()
                await end_all(background)
        log.info("worker_drained", worker=self.worker_id)

    async def _announce_presence(self) -> bool:
        """Be seen as alive before holding a lease; False when only leases can tell who is alive."""
        self.resources.wakeups.be_present(self.worker_id)
        try:
            async with asyncio.timeout(_PRESENCE_DEADLINE_S):
                await self.resources.wakeups.connected.wait()
        except TimeoutError:
            log.warning("worker_not_present", hint="`database.direct_url` must reach Postgres itself")
            return False
        return True

    # --- claiming ------------------------------------------------------------------------------

    async def _claim_until_drained(self, group: asyncio.TaskGroup) -> None:
        while not self._draining.is_set():
            self._wake.clear()
            waiting = sum(held.run.run_id in self._lent for held in self._held.values())
            free = self.settings.slots - len(self._held) + waiting
            if free > 0 and self._loops.usable:
                claimed = await self._claim(free)
                for run in claimed:
                    self._start(run, group)
                # A free slot is worth a look only if the queue gave all we asked for; else a
                # notification tells when there is more.
                self._more_waiting = len(claimed) == free
            # Not `wait_for`: before Python 3.12 it loses a cancel that comes together with what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.poll_s):
                    await self._wake.wait()

    async def _claim(self, slots: int) -> list[Run]:
        try:
            async with self._leases.connection() as connection:
                claimed = await queue.claim(
                    connection, worker_id=self.worker_id, slots=slots, lease_s=self.settings.lease_s
                )
                if not claimed and (due := await queue.next_due(connection)) is not None:
                    self._wake_in(due)
                return claimed
        except Conflict:
            # Two workers met on one thread; the index let one of them pass.
            self._wake_in(0.01)
        except DatabaseError as error:
            log.warning("claim_failed", error=str(error))
        return []

    def _start(self, run: Run, group: asyncio.TaskGroup) -> None:
        loop = min(self._loops.usable, key=lambda loop: loop.runs, default=None)
        if loop is None:
            # The last one was given up while the claim was under way.
            group.create_task(self._store(run, Drained(usage=run.usage)), name=f"hand back {run.run_id}")
            return
        stop = Stop()
        outcome, cancel_task = loop.start_task(
            lambda resources: execute(resources, run, stop), name=f"run {run.run_id}"
        )
        held = Held(
            run=run,
            stop=stop,
            loop=loop,
            outcome=outcome,
            cancel_task=cancel_task,
            lease_ends=time.monotonic() + self.settings.lease_s,
        )
        loop.runs += 1
        carrying = group.create_task(self._carry(held), name=f"carry {run.run_id}")
        self._held[carrying] = held
        carrying.add_done_callback(self._let_go)

    def _wake_in(self, seconds: float) -> None:
        if seconds < self.settings.poll_s:
            asyncio.get_running_loop().call_later(max(seconds, 0.0), self._wake.set)

    def _on_runs(self, payload: str) -> None:
        if payload:
            asyncio.get_running_loop().call_later(float(payload), self._wake.set)
        else:
            self._wake.set()

    def _on_cancel(self, payload: str) -> None:
        suspects = {h for h in self._held.values() if not payload or h.run.run_id == UUID(payload)}
        if suspects:
            self._suspects |= suspects
            self._check.set()

    # --- carrying one run to its end -------------------------------------------------------------

    def _carries(self, run: Run) -> bool:
        return any((h.run.run_id, h.run.fence) == (run.run_id, run.fence) for h in self._held.values())

    async def _carry(self, held: Held) -> None:
        await self._store(held.run, await self._outcome(held))

    def _let_go(self, carrying: asyncio.Task[None]) -> None:
        held = self._held.pop(carrying)
        held.loop.runs -= 1
        if self._more_waiting:
            self._wake.set()

    async def _outcome(self, held: Held) -> Outcome:
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
            await asyncio.wait({held.outcome}, timeout=held.grace_s)
        if not held.outcome.done():
            held.cancel_task()
            await asyncio.wait({held.outcome}, timeout=_CANCEL_GRACE_S)
        if not held.outcome.done():
            self._abandon(held)
            return outcome_of_stopped(held.run, held.stop)
        error = held.outcome.exception()
        if error is None:
            return held.outcome.result()
        if isinstance(error, TaskCancelled):
            return outcome_of_stopped(held.run, held.stop)
        if isinstance(error, FenceLost):
            return lifecycle.LeaseLost()
        if isinstance(error, DatabaseUnavailable):
            # Not the fault of the run: it goes on from its checkpoint when the database is back.
            log.warning("run_cut_off", run_id=str(held.run.run_id), error=str(error))
            await asyncio.sleep(_CUT_OFF_PAUSE_S)
            return Drained(usage=held.usage)
        log.error("run_broke_off", run_id=str(held.run.run_id), graph_id=held.run.graph_id, exc_info=error)
        return Crashed(cause=f"{type(error).__name__}: {error}")

    def _abandon(self, held: Held) -> None:
        """Leave a run behind whose code does not let go: its thread stays, its slot does not."""
        run = held.run
        log.error(
            "run_abandoned", run_id=str(run.run_id), graph_id=run.graph_id, reason=str(held.stop.reason)
        )
        held.outcome.cancel()
        if held.loop.ping(patience_s=_PATIENCE_S) is None:
            return
        held.loop.given_up = True
        for other in list(self._held.values()):
            if other.loop is held.loop and other is not held:
                # Hostages of the blocked loop: they go on elsewhere from their checkpoints.
                self._stop(other, Drain(), grace_s=0.0)

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
            except Exception as error:
                # What the graph left cannot be stored; the run must come to an end all the same.
                log.exception("outcome_refused", run_id=str(run.run_id))
                if isinstance(outcome, Crashed):
                    return None
                outcome = Crashed(cause=f"its outcome could not be stored: {error}")

    # --- leases --------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        every = self.settings.lease_s / 3
        due = time.monotonic() + every
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - time.monotonic()):
                    await self._check.wait()
            self._check.clear()
            suspects, self._suspects = self._suspects, set()
            all_due = time.monotonic() >= due
            renewed = await self._renew([h for h in self._held.values() if all_due or h in suspects])
            if all_due:
                due = time.monotonic() + (every if renewed else min(every, _RETRY_HEARTBEAT_S))

    async def _renew(self, held: list[Held]) -> bool:
        """Renew leases and stop what is no longer ours; False when the database did not answer."""
        if not held:
            return True
        asked = time.monotonic()
        leases = [queue.Lease(h.run, h.stop.usage) for h in held]
        states: list[queue.LeaseState] = []
        try:
            async with (
                asyncio.timeout(self.settings.lease_s / 3),
                self._leases.connection() as connection,
            ):
                states = await queue.renew(connection, leases, lease_s=self.settings.lease_s)
        except (DatabaseError, TimeoutError) as error:
            log.warning("heartbeat_failed", error=str(error) or "no answer in time", runs=len(held))
        # One worker can hold two attempts of a run: what was taken away may come back before it is noticed.
        by_attempt = {(h.run.run_id, h.run.fence): h for h in held}
        for state in states:
            if state.renewed:
                by_attempt[state.run_id, state.fence].lease_ends = asked + self.settings.lease_s
            elif not state.held:
                self._stop(by_attempt[state.run_id, state.fence], why_lost(state))
        for h in held:
            if h.lease_ends < time.monotonic():
                self._stop(h, Lost())
        return bool(states)

    def _stop(self, held: Held, reason: StopReason, *, grace_s: float = STOP_GRACE_S) -> None:
        if held.outcome.done():
            return
        if held.stop.reason is None:
            log.info("run_stopped", run_id=str(held.run.run_id), reason=str(reason))
        held.stop.set(reason)
        held.grace_s = grace_s
        held.stopped.set()

    # --- looking after the rest ------------------------------------------------------------------

    async def _drain(self) -> None:
        for held in list(self._held.values()):
            self._stop(held, Drain(), grace_s=self.settings.drain_grace_s)
        while self._held:
            await asyncio.wait(self._held)

    async def _watch_loops(self) -> None:
        while True:
            if await self._loops.look_after(patience_s=_PATIENCE_S):
                self._wake.set()
            await asyncio.sleep(_PATIENCE_S / 4)

    async def _every(self, seconds: float, step: Callable[[Resources], Awaitable[object]]) -> None:
        """Repeat a step of the sweep; what the database refuses now is tried again later."""
        while True:
            try:
                await step(self.resources)
            except DatabaseError as error:
                log.warning("sweep_failed", step=step.__name__, error=str(error))
            except Exception:
                # One row that cannot be read must not end the worker.
                log.exception("sweep_defect", step=step.__name__)
            await asyncio.sleep(seconds)
