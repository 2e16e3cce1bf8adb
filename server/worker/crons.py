"""Fires crons when they are due. Every worker looks; the rows decide who fires, and once only."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from ...checkpoints.errors import DatabaseError, DatabaseUnavailable
from ..records import crons as records
from ..records.crons import Due
from ..runs import firing

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

_BATCH = 100
_TRY_AGAIN_S = 0.2
"""When somebody held what was due, or the database refused it."""


async def keep_firing(resources: Resources) -> None:
    """Fire what is due, and wait for what is next, until cancelled.

    A change of a cron wakes it; the time is that of the database; and it also looks at a slow pace.
    """
    woken = asyncio.Event()
    poll_s = resources.settings.worker.poll_s
    stop_listening = resources.wakeups.listen("interlock_crons", lambda _: woken.set())
    try:
        while True:
            woken.clear()
            try:
                pause = await _round(resources)
            except DatabaseError as error:
                log.warning("crons_failed", error=str(error))
                pause = poll_s
            except Exception:
                # One row that cannot be read must not end the worker.
                log.exception("crons_defect")
                pause = poll_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause, poll_s)):
                    await woken.wait()
    finally:
        stop_listening()


async def _round(resources: Resources) -> float:
    """Fire what is due; returns for how many seconds there is nothing to do."""
    async with resources.database.connection() as connection:
        due = await records.due(connection, limit=_BATCH)
    fired = [await _fire(resources, one) for one in due]
    if not all(fired):
        return _TRY_AGAIN_S
    if due:
        return 0.0
    async with resources.database.connection() as connection:
        seconds = await records.next_due(connection)
    return resources.settings.worker.poll_s if seconds is None else max(seconds, 0.0)


async def _fire(resources: Resources, due: Due) -> bool:
    try:
        return await firing.fire(resources, due)
    except DatabaseUnavailable as error:
        log.warning("cron_firing_failed", cron_id=str(due.cron_id), error=str(error))
        return False
    except Exception as error:
        # One cron that cannot be read, or that the database will refuse each time, must end neither the
        # worker nor the crons behind it.
        log.exception("cron_defect", cron_id=str(due.cron_id))
        return await _refuse(resources, due, error)


async def _refuse(resources: Resources, due: Due, defect: Exception) -> bool:
    """Count a firing that met a defect as refused; a cron that is not even good for that is disabled."""
    try:
        return await firing.fire(resources, due, defect=defect)
    except DatabaseUnavailable as error:
        log.warning("cron_firing_failed", cron_id=str(due.cron_id), error=str(error))
        return False
    except Exception as error:
        log.exception("cron_unreadable", cron_id=str(due.cron_id))
        unreadable = error
    try:
        return await firing.disable(resources, due, unreadable)
    except DatabaseError as error:
        log.warning("cron_not_disabled", cron_id=str(due.cron_id), error=str(error))
        return False
