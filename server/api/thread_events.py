"""The thread protocol over HTTP: commands in, events out; and the WebSocket that does both."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, WebSocket
from starlette.responses import Response

from ..errors import BadRequest, Invalid
from ..records.queue import inflight_runs
from ..wire.thread_events import Filter, event_frames
from .bodies import Reader
from .callers import Caller, ThreadId, may
from .command_schemas import Command, EventsWanted, last_event_id
from .commands import answered, execute
from .held import event_stream
from .schemas import Body
from .thread_socket import serve

router = APIRouter(prefix="/threads/{thread_id}", tags=["thread events"])

MayRead = Annotated[Caller, may("threads", "read")]


class EnvelopeReader(Reader):
    """Reads a body of the protocol, whose clients know faults of the envelope by status 400."""

    async def __call__(self, request: Request) -> Any:
        """The body of a request, as its model."""
        try:
            return await super().__call__(request)
        except Invalid as fault:
            raise BadRequest(fault.message) from fault


def envelope(model: type[Body]) -> Any:
    """Annotation of a parameter that is a body of the protocol."""
    return Depends(EnvelopeReader(model, many=False))


@router.post("/commands")
async def command(
    caller: MayRead, thread_id: ThreadId, wanted: Annotated[Command, envelope(Command)]
) -> Response:
    """Carry out a command of the thread protocol; the answer tells whether it was, with status 200."""
    doing = execute(caller, thread_id, wanted.method, wanted.params or {})
    text = await answered(wanted.id, doing, seq=lambda: 0)
    return Response(text, media_type="application/json")


@router.post("/stream/events")
async def stream_events(
    caller: MayRead,
    thread_id: ThreadId,
    wanted: Annotated[EventsWanted, envelope(EventsWanted)],
    request: Request,
) -> Response:
    """Follow what happens on a thread, which need not exist yet, over all its runs."""
    await caller.require_thread(thread_id)
    seen = wanted.since if wanted.since is not None else last_event_id(request.headers)
    frames = event_frames(
        caller.resources.event_log,
        wanted.filter(),
        tenant_id=caller.tenant_id,
        thread_id=thread_id,
        seen=seen or 0,
        may_show=partial(caller.require_thread, thread_id),
        is_idle=partial(_is_idle, caller, thread_id) if _waits_for_an_end(request, wanted.filter()) else None,
    )
    return event_stream(frames, http=caller.resources.settings.http, headers={}, on_leave=None)


def _waits_for_an_end(request: Request, wanted: Filter) -> bool:
    """Whether a reader would wait for ever after a run that was stopped.

    The iterators of the Python SDK end at `completed` and `failed`, and at the end of the stream, but pass
    over `interrupted`. Its watcher of lifecycles serves later runs too and must stay. It keeps the name of
    the HTTP client that it is given.
    """
    is_python = request.headers.get("user-agent", "").startswith(("langgraph-sdk-py", "python-httpx"))
    return is_python and wanted.channels != {"lifecycle", "input"}


async def _is_idle(caller: Caller, thread_id: UUID) -> bool:
    async with caller.database.connection() as connection:
        return not await inflight_runs(connection, tenant_id=caller.tenant_id, thread_id=thread_id)


@router.websocket("/stream/events")
async def socket_events(websocket: WebSocket, thread_id: str) -> None:
    """The same over a WebSocket, with the commands in it."""
    await serve(websocket, thread_id)
