"""A whole thread's event log as the classic thread stream: all runs in sequence, open for ever."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal
from uuid import UUID

import orjson

from ..domain import Event, Run
from ..records.event_log import EventLog
from .frames import Cursor, Frame
from .run_stream import Projection, View

ThreadMode = Literal["run_modes", "lifecycle", "state_update"]
"""run_modes: what each run's own stream shows. lifecycle: only starts and ends. state_update: states
written from outside."""

RunLookup = Callable[[UUID], Awaitable[Run | None]]
"""Finds a run of the thread; None when it is gone."""

_BEGINNING = frozenset({"-", "0-0", "0"})


def starting_point(last_event_id: str | None, *, newest: int) -> Cursor | None:
    """Where a reader begins: after its last id, at the beginning, or with what comes next.

    None when the id is none of ours: there is nothing to show that reader.
    """
    if last_event_id is None:
        return Cursor(newest)
    if last_event_id in _BEGINNING:
        return Cursor(0)
    return Cursor.parse(last_event_id)


async def thread_frames(
    event_log: EventLog,
    *,
    tenant_id: str,
    thread_id: UUID,
    modes: frozenset[ThreadMode],
    after: Cursor,
    find_run: RunLookup,
) -> AsyncIterator[bytes]:
    """The frames of a thread after a cursor; it has no end.

    Args:
        event_log: the log of this loop.
        tenant_id: the caller's tenant.
        thread_id: the thread; it need not exist yet.
        modes: what the reader wants to see.
        after: where the reader stands.
        find_run: tells what a run asked to be shown.
    """
    projections: dict[UUID, Projection] = {}
    thread: dict[str, Any] = {"tenant_id": tenant_id, "thread_id": thread_id}
    following = event_log.follow(**thread, run_id=None, after=max(after.seq - 1, 0))
    async with contextlib.aclosing(following):
        async for events in following:
            chunk = bytearray()
            for event in events:
                if event.run_id is not None and event.run_id not in projections and "run_modes" in modes:
                    run = await find_run(event.run_id)
                    projections[event.run_id] = await _projection(event_log, run, before=event)
                for frame in _frames(event, modes, projections):
                    if frame.cursor > after:
                        chunk += frame.to_bytes(with_id=True)
                if event.kind == "run.ended" and event.run_id is not None:
                    projections.pop(event.run_id, None)
            if chunk:
                yield bytes(chunk)


async def _projection(event_log: EventLog, run: Run | None, *, before: Event) -> Projection:
    """The projection of a run as it stands before an event, where a reader may have come in."""
    if run is None:
        return Projection(View(modes=frozenset(), subgraphs=False, ids=True))
    projection = Projection(View.of(run))
    if projection.needs_history and before.seq > run.first_seq:
        earlier = event_log.follow(
            tenant_id=run.tenant_id,
            thread_id=run.thread_id,
            run_id=run.run_id,
            after=run.first_seq - 1,
            whole=False,
        )
        async with contextlib.aclosing(earlier):
            async for events in earlier:
                for event in events:
                    if event.seq >= before.seq:
                        return projection
                    for _ in projection.frames(event):
                        pass
    return projection


def _frames(
    event: Event, modes: frozenset[ThreadMode], projections: dict[UUID, Projection]
) -> Iterator[Frame]:
    if event.kind == "state.updated":
        if "state_update" in modes:
            yield Frame(Cursor(event.seq), "state_update", event.data)
        return
    shows_ends = "lifecycle" in modes or "run_modes" in modes
    projection = projections.get(event.run_id) if event.run_id else None
    if event.kind == "run.ended":
        run_id = orjson.loads(event.data)["run_id"]
        errors = list(projection.frames(event)) if projection else []
        yield from errors
        if shows_ends:
            done = orjson.dumps({"status": "run_done", "run_id": run_id})
            yield Frame(Cursor(event.seq, len(errors)), "metadata", done)
    elif event.kind == "run.started" and projection is None:
        if shows_ends:
            yield Frame(Cursor(event.seq), "metadata", event.data)
    elif projection is not None:
        yield from projection.frames(event)
