"""Tasks that are to end do, whatever they do with a cancel."""

from __future__ import annotations

import asyncio
import contextlib

from interlock.server.endings import end_all


async def test_a_task_that_loses_a_cancel_is_asked_again() -> None:
    lost = asyncio.Event()

    async def loses_one() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        lost.set()
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(loses_one()) for _ in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end_all(tasks)
    assert lost.is_set()
    assert [task.cancelled() for task in tasks] == [True] * 3
