"""The fence: a writer whose thread was taken stores nothing more, however the two race."""

from __future__ import annotations

import asyncio
import random

from interlock.checkpoints.database import Database
from interlock.checkpoints.errors import FenceLost
from interlock.server.domain import Run
from interlock.server.records import queue

from .queue_rows import claim, enqueue

_TRIES = 300
_STORED = b"SELECT count(*) AS n FROM written WHERE tag = %s"


async def write(database: Database, run: Run, tag: int, *, before_s: float, within_s: float) -> bool:
    """Write as the holder of a run, stalling before the write and again before the commit."""
    await asyncio.sleep(before_s)
    try:
        async with database.transaction() as connection:
            await connection.execute(
                b"SELECT interlock.hold_fence(%s, %s, %s)", (run.tenant_id, run.thread_id, run.fence)
            )
            await connection.execute(b"INSERT INTO written VALUES (%s)", (tag,))
            await asyncio.sleep(within_s)
    except FenceLost:
        return False
    return True


async def take_over(database: Database, run: Run, tag: int) -> int:
    """Take the run away, then read what its old holder has written."""
    async with database.connection() as connection:
        assert await queue.hand_back(connection, run, usage=None) is not None
    return await stored(database, tag)


async def stored(database: Database, tag: int) -> int:
    row = await database.fetch_one(_STORED, (tag,))
    assert row is not None
    return row["n"]


async def test_no_write_of_a_stale_worker_is_seen_after_the_takeover(database_url: str) -> None:
    refused = 0
    chance = random.Random(7)
    async with Database(database_url, min_size=4, max_size=8) as database:
        await database.execute(b"CREATE TABLE written (tag int)")
        await enqueue(database)
        for tag in range(_TRIES):
            (run,) = await claim(database)
            before_s, within_s = chance.random() * 0.002, chance.choice([0, 0, 0.001, 0.003])
            written, seen = await asyncio.gather(
                write(database, run, tag, before_s=before_s, within_s=within_s), take_over(database, run, tag)
            )
            assert seen == await stored(database, tag) == int(written)
            refused += not written
    assert 0 < refused < _TRIES, "the race never went both ways, so this proves nothing"


async def test_a_stale_worker_cannot_finish_or_hand_back_the_run(database: Database) -> None:
    await enqueue(database)
    (old,) = await claim(database)
    async with database.transaction() as connection:
        await queue.lock_thread(connection, tenant_id=old.tenant_id, thread_id=old.thread_id)
        await queue.take_back(connection, old, max_attempts=3, error=b"{}", if_expired=False)
    (new,) = await claim(database, worker_id="w2")
    async with database.connection() as connection:
        assert await queue.hand_back(connection, old, usage=None) is None
        current = await queue.get_run(connection, tenant_id=new.tenant_id, run_id=new.run_id)
    assert current is not None
    assert (current.status, current.worker_id, current.fence) == ("running", "w2", new.fence)
