"""Runs without a thread of their own, and many runs at once, over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from ..domain import CancelAction
from ..errors import NotFound
from ..runs import cancel
from .bodies import bodies, body
from .callers import Caller, may
from .following import place_of, start, start_all, stream_from_start, wait_for
from .held import place_headers
from .run_schemas import CancelMany, RunCreate
from .runs import IdempotencyKey, MayRun, Wanted
from .shapes import json_response, nothing, run_shape

router = APIRouter(prefix="/runs", tags=["stateless runs"])


@router.post("")
async def create_stateless_run(
    caller: MayRun, wanted: Wanted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run in the background, on a thread made for it."""
    run = await start(caller, wanted, thread_id=None, idempotency_key=idempotency_key)
    headers = place_headers(place_of(None, run.run_id), prefix=caller.mount_prefix)
    return json_response(run_shape(run), headers=headers)


@router.post("/stream")
async def stream_stateless_run(
    caller: MayRun, wanted: Wanted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run on a thread made for it, and follow it."""
    run = await start(caller, wanted, thread_id=None, idempotency_key=idempotency_key, awaited=True)
    return stream_from_start(caller, run, thread_id=None, cancel_on_leave=wanted.on_disconnect == "cancel")


@router.post("/wait")
async def wait_stateless_run(
    caller: MayRun, wanted: Wanted, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run on a thread made for it, and wait for its values."""
    run = await start(caller, wanted, thread_id=None, idempotency_key=idempotency_key, awaited=True)
    return wait_for(caller, run, cancel_on_leave=wanted.on_disconnect == "cancel")


@router.post("/batch")
async def create_runs(
    caller: MayRun,
    wanted: Annotated[list[RunCreate], bodies(RunCreate)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start several runs, each on a thread made for it: all of them, or none."""
    requests = [
        one.request(thread_id=None, idempotency_key=idempotency_key and f"{idempotency_key}#{place}")
        for place, one in enumerate(wanted)
    ]
    runs = await start_all(caller, requests)
    return json_response([run_shape(run) for run in runs])


@router.post("/cancel", status_code=204)
async def cancel_runs(
    caller: Annotated[Caller, may("threads", "update")],
    wanted: Annotated[CancelMany, body(CancelMany)],
    action: Annotated[CancelAction, Query()] = "interrupt",
) -> Response:
    """Stop the named runs of a thread, or all runs that have a status."""
    answer = await caller.ask("threads", "update", thread_id=wanted.thread_id, metadata={}, action=action)
    stopped = await cancel.cancel_many(
        caller.resources,
        caller.principal,
        action=action,
        thread_id=wanted.thread_id,
        run_ids=wanted.run_ids,
        status=wanted.status,
        held=answer.held,
    )
    if not stopped:
        raise NotFound("No runs found to cancel.")
    return nothing()
