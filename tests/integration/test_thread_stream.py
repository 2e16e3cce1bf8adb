"""The stream of a whole thread over a real log."""

from __future__ import annotations

import re
from contextlib import aclosing
from uuid import UUID

from interlock.server.domain import Run
from interlock.server.records import queue
from interlock.server.resources import Resources
from interlock.server.runs import lifecycle
from interlock.server.wire.frames import Cursor
from interlock.server.wire.run_stream import View, beginning, run_frames
from interlock.server.wire.thread_stream import thread_frames
from interlock.server.worker.execute import execute
from interlock.server.worker.stop import Stop

from . import engine

_ID = re.compile(rb"^id: (.+)\r$", re.MULTILINE)


async def executed(resources: Resources, thread_id: UUID) -> Run:
    run = await engine.start(
        resources, "chat", thread_id=thread_id, stream_mode=["messages", "updates"], stream_resumable=True
    )
    taken = await engine.claimed(resources, run)
    await lifecycle.finish(resources, taken, await execute(resources, taken, Stop()))
    return run


async def read(resources: Resources, thread_id: UUID, after: Cursor, *, last: str) -> list[bytes]:
    """The frames after a cursor, up to the one with the id `last`."""

    async def find_run(run_id: UUID) -> Run | None:
        async with resources.database.connection() as connection:
            return await queue.get_run(connection, tenant_id="acme", run_id=run_id)

    frames: list[bytes] = []
    stream = thread_frames(
        resources.event_log,
        tenant_id="acme",
        thread_id=thread_id,
        modes=frozenset({"run_modes"}),
        after=after,
        find_run=find_run,
    )
    async for chunk in stream:
        frames += [part + b"\r\n\r\n" for part in chunk.split(b"\r\n\r\n") if part]
        if f"id: {last}\r\n".encode() in chunk:
            return frames
    raise AssertionError("the stream of a thread has no end")


async def test_a_reader_that_comes_back_anywhere_gets_the_rest_of_the_thread(resources: Resources) -> None:
    """Also in the middle of a message, whose text goes on from its beginning."""
    thread_id = await engine.make_thread(resources)
    for _ in range(2):
        await executed(resources, thread_id)
    last = str((await engine.events_of(resources, thread_id))[-1].seq)

    whole = await read(resources, thread_id, Cursor(0), last=last)

    ids = [_ID.findall(frame)[0].decode() for frame in whole]
    assert len(set(ids)) == len(ids)
    assert sum(b"messages/partial" in frame for frame in whole) >= 6
    for place, identity in enumerate(ids[:-1]):
        cursor = Cursor.parse(identity)
        assert cursor is not None
        assert await read(resources, thread_id, cursor, last=last) == whole[place + 1 :]


async def test_a_reader_that_leaves_is_no_longer_subscribed(resources: Resources) -> None:
    thread_id = await engine.make_thread(resources)
    run = await engine.start(resources, "chat", thread_id=thread_id)
    frames = run_frames(resources.event_log, run, View.of(run), after=beginning(run))
    taken = await engine.claimed(resources, run)
    async with aclosing(frames):
        outcome = await execute(resources, taken, Stop())
        assert b"metadata" in await anext(frames)
        assert resources.hub.followed("acme", thread_id)
    assert not resources.hub.followed("acme", thread_id)
    await lifecycle.finish(resources, taken, outcome)
