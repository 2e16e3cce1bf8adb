"""What nobody else cleans up: runs of dead workers, old events, ended stateless runs, missing statistics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Set
from typing import TYPE_CHECKING

import structlog

from ...checkpoints import thread_rows
from ...checkpoints.database import Connection, Database
from ...checkpoints.embedding import StoreIndex
from ...checkpoints.errors import DatabaseError, SealingFailed
from ...checkpoints.notify import LONGEST_PAUSE_S
from ...checkpoints.store import delete_expired
from ...checkpoints.store_vectors import Backfill
from ..domain import Run
from ..records import deliveries, event_log, queue, tidying
from ..runs import lifecycle

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

TEMPORARY_GRACE_S = 600.0
"""How long an ended stateless run can be read and its idempotency key is remembered."""
_BATCH = 100
_OUTAGE_S = 4.0
"""A round of the sweep that comes so late has waited for the database."""
_LOOK_EVERY_S = 0.25
_LONGEST_SILENCE_S = 4.0
_BLINK_S = 0.5
"""What a query, a connection or a heartbeat may take on top of its time."""


class Reclaim:
    """Takes back, round by round, the runs whose lease ran out.

    An outage of the database looks like the death of everybody else: nobody could renew. After one it bears
    with the living, who give back by themselves what they lost, at no cost to their runs. What this worker
    `carries` it gives back itself, however long that takes.
    """

    def __init__(self, *, carries: Callable[[Run], bool], grace_s: float = 3.0) -> None:
        self._carries = carries
        self._grace_s = grace_s
        self._answers_since = self._answered = time.monotonic()

    async def expired(self, resources: Resources) -> int:
        """One round; returns how many runs were taken."""
        async with resources.database.connection() as connection:
            found = [run for run in await queue.expired(connection) if not self._carries(run)]
        now = time.monotonic()
        if now - self._answered > _OUTAGE_S:
            self._answers_since = now
        self._answered = now
        if now - self._answers_since < self._grace_s:
            return 0
        return sum([await _take_back(resources, run) for run in found])


async def reclaim_orphans(resources: Resources, *, carries: Callable[[Run], bool]) -> None:
    """After the start: take runs back whose worker is gone, without waiting for their leases to run out.

    It is gone when it is not connected whenever we look, for longer than a living one needs to connect
    anew, and has not renewed for some seconds, at the usual lease longer than a living one leaves between
    two heartbeats. What this worker `carries` is none.
    """
    suspects: set[Hashable] | None = None
    watched_s, looked = 0.0, time.monotonic()
    while suspects is None or suspects:
        try:
            suspects = await _look_at_orphans(resources, carries, suspects, watched_s)
        except DatabaseError as error:
            log.warning("sweep_failed", step="reclaim_orphans", error=str(error))
        await asyncio.sleep(_LOOK_EVERY_S)
        # A look that waited for the database has seen nothing of the time in between.
        watched_s += min(time.monotonic() - looked, _BLINK_S)
        looked = time.monotonic()


async def _look_at_orphans(
    resources: Resources, carries: Callable[[Run], bool], suspects: Set[Hashable] | None, watched_s: float
) -> set[Hashable]:
    """Take back what is surely orphaned; returns which leases were so, unchanged, whenever we looked."""
    async with resources.database.connection() as connection:
        found = {
            _lease_of(run): (run, left_s)
            for run, left_s in await queue.orphaned(connection)
            if not carries(run)
        }
    lease_s = resources.settings.worker.lease_s
    # A living worker renews after each third of its lease. Where that is long, its absence must do.
    patience_s = min(lease_s / 3 + _BLINK_S, _LONGEST_SILENCE_S)
    still = found.keys() if suspects is None else found.keys() & suspects
    for run, left_s in (found[lease] for lease in still):
        silent_s = max(watched_s, lease_s - left_s)
        if watched_s > LONGEST_PAUSE_S + _BLINK_S and silent_s > patience_s:
            await _take_back(resources, run, orphaned=True)
    return set(still)


def _lease_of(run: Run) -> Hashable:
    """Who holds a run, and since which heartbeat."""
    return run.run_id, run.fence, run.lease_until


async def _take_back(resources: Resources, run: Run, *, orphaned: bool = False) -> bool:
    cause = f"worker {run.worker_id} went away without a word"
    try:
        return await lifecycle.take_back(resources, run, cause=cause, orphaned=orphaned) is not None
    except SealingFailed as error:
        # The others must not wait for one whose keys are away.
        log.warning("run_not_taken_back", run_id=str(run.run_id), error=str(error))
        return False


async def tidy(resources: Resources) -> None:
    """One round of housekeeping; each step is small and may run in several processes at once."""
    database, retention_s = resources.database, resources.settings.events.retention_s
    async with database.connection() as connection:
        if await tidying.analyse_if_never(connection):
            log.info("hot_tables_analysed")
    removed = 1
    while removed:
        async with database.connection() as connection:
            removed = await event_log.sweep(connection, retention_s=retention_s)
    removed = _BATCH
    while removed == _BATCH:
        async with database.transaction() as connection:
            removed = await _forget_temporary(connection)
    kept_s = resources.settings.webhooks.retention_s
    removed = 1
    while removed:
        async with database.connection() as connection:
            removed = await deliveries.sweep(connection, retention_s=kept_s)


async def expire_items(resources: Resources) -> None:
    """Remove the items of the store whose time is over."""
    removed = _BATCH
    while removed == _BATCH:
        async with resources.database.connection() as connection:
            removed = await delete_expired(connection, limit=_BATCH)


class EmbedItems:
    """Embeds items that were stored under another `store.index`, or without one."""

    def __init__(self, database: Database, index: StoreIndex) -> None:
        self._backfill = Backfill(database, index)

    async def round(self, _: Resources) -> None:
        """Embed what there is."""
        if done := await self._backfill.round():
            log.info("items_embedded", items=done)


async def _forget_temporary(connection: Connection) -> int:
    """Remove what ended stateless runs have left: their rows, events and checkpoints."""
    forgotten = await tidying.sweep_temporary_runs(connection, grace_s=TEMPORARY_GRACE_S, limit=_BATCH)
    for tenant_id, thread_id in forgotten:
        await event_log.delete_thread_in(connection, tenant_id=tenant_id, thread_id=thread_id)
        await thread_rows.delete_thread_in(connection, tenant_id=tenant_id, thread_id=thread_id)
    return len(forgotten)
