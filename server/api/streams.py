"""Streams of runs and threads that exist already."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from ..runs import reading, threads
from ..wire.thread_stream import ThreadMode, starting_point, thread_frames
from .callers import Caller, RunId, ThreadId, may
from .following import join_stream, nothing_more
from .held import event_stream
from .runs import CancelOnDisconnect
from .schemas import Text

router = APIRouter(tags=["streams"])

MayRead = Annotated[Caller, may("threads", "read")]
LastEventId = Annotated[
    Text | None, Header(max_length=255, description="Where the reader stands; `-1` for the whole run.")
]
Modes = Annotated[
    list[Text] | None, Query(description="Only these of the run's modes; a mode it has not shows nothing.")
]


@router.get("/threads/{thread_id}/runs/{run_id}/stream")
async def join_run_stream(
    caller: MayRead,
    thread_id: ThreadId,
    run_id: RunId,
    stream_mode: Modes = None,
    cancel_on_disconnect: CancelOnDisconnect = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow a run from where the reader stands."""
    return await join_stream(
        caller,
        thread_id=thread_id,
        run_id=run_id,
        last_event_id=last_event_id,
        modes=_named(stream_mode),
        cancel_on_leave=cancel_on_disconnect,
    )


@router.get("/runs/{run_id}/stream")
async def join_stateless_stream(
    caller: MayRead,
    run_id: RunId,
    stream_mode: Modes = None,
    cancel_on_disconnect: CancelOnDisconnect = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow a run whose thread the reader does not know."""
    return await join_stream(
        caller,
        thread_id=None,
        run_id=run_id,
        last_event_id=last_event_id,
        modes=_named(stream_mode),
        cancel_on_leave=cancel_on_disconnect,
    )


@router.get("/threads/{thread_id}/stream")
async def stream_thread(
    caller: MayRead,
    thread_id: ThreadId,
    stream_mode: Annotated[list[ThreadMode] | None, Query()] = None,
    stream_modes: Annotated[list[ThreadMode] | None, Query()] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow all runs of a thread, for ever."""
    answer = await caller.ask("threads", "read", thread_id=thread_id)
    thread = await threads.get(
        caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, held=answer.held
    )
    after = starting_point(last_event_id, newest=thread.last_seq)
    frames = (
        nothing_more()
        if after is None
        else thread_frames(
            caller.resources.event_log,
            tenant_id=caller.tenant_id,
            thread_id=thread_id,
            modes=frozenset([*(stream_mode or ()), *(stream_modes or ())] or ["run_modes"]),
            after=after,
            find_run=reading.finder(caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id),
        )
    )
    return event_stream(frames, http=caller.resources.settings.http, headers={}, on_leave=None)


def _named(modes: list[str] | None) -> frozenset[str] | None:
    """The modes that a query names; the SDK sends an empty `stream_mode=` where none is asked for."""
    return frozenset(mode for mode in modes or () if mode) or None
