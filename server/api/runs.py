"""Runs on a thread over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from ..domain import CancelAction, RunStatus
from ..records.held import both
from ..runs import cancel, reading
from .bodies import body
from .callers import Caller, RunId, ThreadId, may
from .following import join, place_of, start, stream_from_start, wait_for
from .held import place_headers
from .run_schemas import RunCreate
from .schemas import Text
from .shapes import json_response, nothing, run_shape, selected

router = APIRouter(prefix="/threads/{thread_id}/runs", tags=["runs"])

MayRun = Annotated[Caller, may("threads", "create_run")]
MayRead = Annotated[Caller, may("threads", "read")]
Wanted = Annotated[RunCreate, body(RunCreate)]
IdempotencyKey = Annotated[
    Text | None, Header(max_length=255, description="The same key and body give the same run again.")
]
CancelOnDisconnect = Annotated[
    bool, Query(description="Stop the run when the reader leaves; asks for the right `threads.update` too.")
]
RunField = Literal[
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "langsmith_session_name",
    "cancel_reason",
]


@router.post("")
async def create_run(
    caller: MayRun, thread_id: ThreadId, wanted: Wanted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run in the background."""
    run = await start(caller, wanted, thread_id=thread_id, idempotency_key=idempotency_key)
    headers = place_headers(place_of(thread_id, run.run_id), prefix=caller.mount_prefix)
    return json_response(run_shape(run), headers=headers)


@router.post("/stream")
async def stream_run(
    caller: MayRun, thread_id: ThreadId, wanted: Wanted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run and follow it."""
    run = await start(caller, wanted, thread_id=thread_id, idempotency_key=idempotency_key, awaited=True)
    leaves = wanted.on_disconnect == "cancel"
    return stream_from_start(caller, run, thread_id=thread_id, cancel_on_leave=leaves)


@router.post("/wait")
async def wait_run(
    caller: MayRun, thread_id: ThreadId, wanted: Wanted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run and wait for its values."""
    run = await start(caller, wanted, thread_id=thread_id, idempotency_key=idempotency_key, awaited=True)
    return wait_for(caller, run, cancel_on_leave=wanted.on_disconnect == "cancel")


@router.get("")
async def list_runs(
    caller: MayRead,
    thread_id: ThreadId,
    limit: Annotated[int, Query(ge=0, le=1000)] = 10,
    offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
    status: Annotated[RunStatus | None, Query()] = None,
    select: Annotated[list[RunField] | None, Query()] = None,
) -> Response:
    """Runs of a thread, newest first."""
    searching = await caller.ask("threads", "search", thread_id=thread_id, limit=limit, offset=offset)
    answer = await caller.ask("threads", "read", thread_id=thread_id)
    found = await reading.runs_of_thread(
        caller.resources,
        tenant_id=caller.tenant_id,
        thread_id=thread_id,
        status=status,
        limit=limit,
        offset=offset,
        held=both(both(searching.held, searching.metadata or None), answer.held),
    )
    return json_response([selected(run_shape(run), select) for run in found])


@router.get("/{run_id}")
async def get_run(caller: MayRead, thread_id: ThreadId, run_id: RunId) -> Response:
    """One run."""
    answer = await caller.ask("threads", "read", thread_id=thread_id, run_id=run_id)
    found = await reading.run(
        caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, run_id=run_id, held=answer.held
    )
    return json_response(run_shape(found))


@router.delete("/{run_id}", status_code=204)
async def delete_run(
    caller: Annotated[Caller, may("threads", "delete")], thread_id: ThreadId, run_id: RunId
) -> Response:
    """Delete a run, stopping it first; what it wrote to the thread stays."""
    answer = await caller.ask("threads", "delete", thread_id=thread_id, run_id=run_id)
    await cancel.delete(
        caller.resources, caller.principal, thread_id=thread_id, run_id=run_id, held=answer.held
    )
    return nothing()


@router.get("/{run_id}/join")
async def join_run(
    caller: MayRead,
    thread_id: ThreadId,
    run_id: RunId,
    cancel_on_disconnect: CancelOnDisconnect = False,
) -> Response:
    """Wait for the values of a run."""
    return await join(caller, thread_id=thread_id, run_id=run_id, cancel_on_leave=cancel_on_disconnect)


@router.post("/{run_id}/cancel", status_code=202)
async def cancel_run(
    caller: Annotated[Caller, may("threads", "update")],
    thread_id: ThreadId,
    run_id: RunId,
    wait: Annotated[bool, Query()] = False,
    action: Annotated[CancelAction, Query()] = "interrupt",
    reason: Annotated[Text | None, Query(max_length=1000)] = None,
) -> Response:
    """Stop a run. It has stopped when the answer comes; without `wait` the answer has no body."""
    answer = await caller.ask("threads", "update", thread_id=thread_id, metadata={}, action=action)
    await cancel.cancel(
        caller.resources,
        caller.principal,
        thread_id=thread_id,
        run_id=run_id,
        action=action,
        reason=reason,
        held=answer.held,
    )
    if not wait:
        return nothing(202)
    headers = place_headers(place_of(thread_id, run_id), resume="join", prefix=caller.mount_prefix)
    return json_response({}, headers=headers)
