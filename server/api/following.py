"""Starts and follows runs for a client: which part of the log it is shown, and what its leaving does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from starlette.responses import Response

from ..domain import Run
from ..encoding import encode
from ..errors import Conflicting, NotFound
from ..records import queue, threads
from ..records.held import Held, both
from ..runs import admission, cancel, state
from ..runs.admission import RunRequest
from ..runs.state import Place
from ..wire.frames import Cursor, Frame
from ..wire.run_stream import GONE, Answer, View, answer, beginning, ending, run_frames
from .callers import Caller
from .headers import for_configurable
from .held import OnLeave, awaited_json, event_stream, place_headers
from .run_schemas import RunCreate

AHEAD_OF_ALL = -6
"""Priority of a run that another run waits for: the slot that the other one lends is meant for it."""

WAITS_FOR_ITSELF = (
    "run {run} would wait for itself: it is running on thread {thread} and asks for another run there; "
    "start that one on another thread, for example with `thread_id` None"
)

WHOLE_RUN = "-1"
"""`Last-Event-ID` of a client that has seen nothing."""


async def start(
    caller: Caller,
    wanted: RunCreate,
    *,
    thread_id: UUID | None,
    idempotency_key: str | None,
    awaited: bool = False,
) -> Run:
    """Create the run that a client wants, without `thread_id` on a thread made for it.

    `awaited` says that the client is shown what it comes to: then it may be made only by who may read.

    Raises:
        Conflicting: it is `awaited` by a run of the same thread, which would wait for itself.
    """
    request = wanted.request(thread_id=thread_id, idempotency_key=idempotency_key)
    return await start_request(caller, request, awaited=awaited)


async def start_request(caller: Caller, request: RunRequest, *, awaited: bool) -> Run:
    """Create a run as `start` does.

    Raises:
        Conflicting: it is `awaited` by a run of the same thread, which would wait for itself.
    """
    thread_id, held = request.thread_id, None
    if awaited:
        held = (await caller.ask("threads", "read", thread_id=thread_id, run_id=request.run_id)).held
    if awaited and caller.waiting is not None:
        if thread_id is not None and thread_id == caller.waiting.thread_id:
            raise Conflicting(WAITS_FOR_ITSELF.format(run=caller.waiting.run_id, thread=thread_id))
        request = replace(request, priority=AHEAD_OF_ALL)
    return (await start_all(caller, [request], held=held))[0]


async def start_all(caller: Caller, requests: Sequence[RunRequest], *, held: Held = None) -> list[Run]:
    """Create runs, all or none, which find the headers of the client in `configurable`."""
    headers = for_configurable(caller.headers, caller.resources.settings.http.configurable_headers)
    given = [replace(request, headers=headers) for request in requests]
    return await admission.admit_batch(caller.resources, caller.principal, given, held=held)


def stream_from_start(caller: Caller, run: Run, *, thread_id: UUID | None, cancel_on_leave: bool) -> Response:
    """The whole stream of a run that was just created, as the client knows it."""
    frames = run_frames(caller.resources.event_log, run, View.of(run), after=beginning(run))
    place = place_of(thread_id, run.run_id)
    return _stream(caller, frames, place, _on_leave(caller, run, cancel_on_leave))


def wait_for(caller: Caller, run: Run, *, cancel_on_leave: bool) -> Response:
    """What a run comes to."""
    return awaited_json(
        lambda: _answer(caller, run),
        http=caller.resources.settings.http,
        headers=place_headers(place_of(run.thread_id, run.run_id), resume="join", prefix=caller.mount_prefix),
        on_leave=_on_leave(caller, run, cancel_on_leave),
    )


async def join(caller: Caller, *, thread_id: UUID, run_id: UUID, cancel_on_leave: bool) -> Response:
    """What an existing run comes to; a run that does not exist is an error inside the answer.

    Raises:
        NotFound: the caller may touch some threads, and this is none of them.
        Forbidden: the caller may read runs, but not stop them by leaving.
    """
    held = await _ask(caller, thread_id, run_id, cancels=cancel_on_leave)
    run = await _find(caller, thread_id, run_id, held)
    if run is not None:
        return wait_for(caller, run, cancel_on_leave=cancel_on_leave)
    if held is not None:
        key = threads.ThreadKey(tenant_id=caller.tenant_id, thread_id=thread_id)
        async with caller.database.connection() as connection:
            if await threads.get(connection, **key, held=held) is None:
                raise NotFound(f"Thread with ID {thread_id} not found")

    async def gone() -> bytes:
        return b'{"__error__":%b}' % GONE

    headers = place_headers(place_of(thread_id, run_id), resume="join", prefix=caller.mount_prefix)
    return awaited_json(gone, http=caller.resources.settings.http, headers=headers, on_leave=None)


async def join_stream(
    caller: Caller,
    *,
    thread_id: UUID | None,
    run_id: UUID,
    last_event_id: str | None,
    modes: frozenset[str] | None,
    cancel_on_leave: bool,
) -> Response:
    """The stream of an existing run, from where the client stands.

    Without `last_event_id` that is the present: of a run that is over, how it ended. An id that is none of
    ours shows nothing.

    Raises:
        Forbidden: the caller may read runs, but not stop them by leaving.
    """
    held = await _ask(caller, thread_id, run_id, cancels=cancel_on_leave)
    place = place_of(thread_id, run_id)
    run = await _find(caller, thread_id, run_id, held)
    if run is None:
        return _stream(caller, _gone(), place, None)
    if run.ended_at is not None and not last_event_id:
        return _stream(caller, ending(run), place, None)
    after = await _standing(caller, run, last_event_id)
    if after is None:
        return _stream(caller, nothing_more(), place, None)
    frames = run_frames(caller.resources.event_log, run, View.of(run, only=modes), after=after)
    return _stream(caller, frames, place, _on_leave(caller, run, cancel_on_leave))


def place_of(thread_id: UUID | None, run_id: UUID) -> str:
    """Path of a run; without `thread_id` as it is known to a client that names no thread."""
    return f"/runs/{run_id}" if thread_id is None else f"/threads/{thread_id}/runs/{run_id}"


def _stream(caller: Caller, frames: AsyncIterator[bytes], place: str, on_leave: OnLeave | None) -> Response:
    headers = place_headers(place, resume="stream", prefix=caller.mount_prefix)
    return event_stream(frames, http=caller.resources.settings.http, headers=headers, on_leave=on_leave)


async def _find(caller: Caller, thread_id: UUID | None, run_id: UUID, held: Held) -> Run | None:
    async with caller.database.connection() as connection:
        return await queue.get_run(
            connection, tenant_id=caller.tenant_id, thread_id=thread_id, run_id=run_id, held=held
        )


async def _standing(caller: Caller, run: Run, last_event_id: str | None) -> Cursor | None:
    if last_event_id == WHOLE_RUN:
        return beginning(run)
    if last_event_id:
        return Cursor.parse(last_event_id)
    async with caller.database.connection() as connection:
        thread = await threads.get(connection, tenant_id=caller.tenant_id, thread_id=run.thread_id)
    # Without a thread the run has ended, and its whole log is in the past.
    return Cursor(thread.last_seq) if thread else None


async def _ask(caller: Caller, thread_id: UUID | None, run_id: UUID, *, cancels: bool) -> Held:
    """What the thread of a run that is followed must hold.

    The right to cancel is asked for before the answer begins: afterwards nobody could be refused.
    """
    if cancels:
        caller.must("threads", "update")
    reading = await caller.ask("threads", "read", thread_id=thread_id, run_id=run_id)
    if not cancels:
        return reading.held
    leaving = await caller.ask("threads", "update", thread_id=thread_id, metadata={}, action="interrupt")
    return both(reading.held, leaving.held)


def _on_leave(caller: Caller, run: Run, wanted: bool) -> OnLeave | None:
    return stop_on_leave(caller, run) if wanted else None


def stop_on_leave(caller: Caller, run: Run) -> OnLeave:
    """What stops a run when its client goes."""

    async def stop() -> None:
        with contextlib.suppress(NotFound):
            await cancel.cancel(
                caller.resources,
                caller.principal,
                thread_id=run.thread_id,
                run_id=run.run_id,
                reason="the client disconnected",
            )

    return stop


async def _answer(caller: Caller, run: Run) -> bytes:
    came_to = await answer(caller.resources.event_log, run)
    if came_to.error is not None:
        return encode({"__error__": came_to.error})
    return await last_values(caller, run, came_to)


async def last_values(caller: Caller, run: Run, came_to: Answer) -> bytes:
    """The state that a run came to, with what it asks under `__interrupt__`, as JSON text."""
    if came_to.values is not None:
        return came_to.values
    try:
        found = await _last_state(caller, run, came_to.checkpoint_id)
    except NotFound:
        # A stateless run that ended before its first step: its thread is gone, and never had a state.
        return b"{}"
    if not isinstance(found["values"], dict):
        return encode(found["values"])
    pending = {"__interrupt__": found["interrupts"]} if found["interrupts"] else {}
    return encode({**found["values"], **pending})


async def _last_state(caller: Caller, run: Run, checkpoint_id: str | None) -> Mapping[str, Any]:
    """The state that a run left when its events do not tell: its own last one, else the thread's."""
    if checkpoint_id is None:
        own = state.history(
            caller.resources,
            caller.principal,
            thread_id=run.thread_id,
            limit=1,
            metadata={"run_id": str(run.run_id)},
        )
        async with contextlib.aclosing(own):
            async for found in own:
                return found
    place = Place(checkpoint_id=checkpoint_id)
    return await state.read(caller.resources, caller.principal, thread_id=run.thread_id, place=place)


async def _gone() -> AsyncIterator[bytes]:
    yield Frame(Cursor(0), "error", GONE).to_bytes(with_id=False)


async def nothing_more() -> AsyncIterator[bytes]:
    """A stream that ends at once."""
    return
    yield b""
