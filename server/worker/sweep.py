"""What nobody else cleans up: runs of dead workers, old events, ended stateless runs, missing statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ...checkpoints import thread_rows
from ...checkpoints.database import Connection
from ..records import event_log, queue
from ..runs import lifecycle

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

TEMPORARY_GRACE_S = 600.0
"""How long an ended stateless run can be read and its idempotency key is remembered."""
_BATCH = 100


async def reclaim(resources: Resources, *, without_worker: bool = False) -> int:
    """Take runs back whose lease ran out and, `without_worker`, those whose worker is not connected.

    The second is for boot: a single process that was killed goes on at once with what it left.
    """
    async with resources.database.connection() as connection:
        found = await queue.expired(connection, without_worker=without_worker)
    taken = 0
    for run in found:
        taken += (
            await lifecycle.take_back(
                resources,
                run,
                cause=f"worker {run.worker_id} went away without a word",
                if_expired=not without_worker,
            )
            is not None
        )
    return taken


async def tidy(resources: Resources) -> None:
    """One round of housekeeping; each step is small and may run in several processes at once."""
    database, retention_s = resources.database, resources.settings.events.retention_s
    async with database.connection() as connection:
        if await queue.analyse_if_never(connection):
            log.info("hot_tables_analysed")
    removed = 1
    while removed:
        async with database.connection() as connection:
            removed = await event_log.sweep(connection, retention_s=retention_s)
    removed = _BATCH
    while removed == _BATCH:
        async with database.transaction() as connection:
            removed = await _forget_temporary(connection)


async def _forget_temporary(connection: Connection) -> int:
    """Remove what ended stateless runs have left: their rows, events and checkpoints."""
    forgotten = await queue.sweep_temporary_runs(connection, grace_s=TEMPORARY_GRACE_S, limit=_BATCH)
    for tenant_id, thread_id in forgotten:
        await event_log.delete_thread_in(connection, tenant_id=tenant_id, thread_id=thread_id)
        await thread_rows.delete_thread_in(connection, tenant_id=tenant_id, thread_id=thread_id)
    return len(forgotten)
