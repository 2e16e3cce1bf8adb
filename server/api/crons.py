"""Crons over HTTP: runs that start by the clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path
from starlette.responses import Response
from uuid_utils.compat import uuid7

from ..records import crons as records
from ..records.crons import CronFilter
from ..records.held import stamped
from ..records.paging import Page
from ..runs import crons
from ..runs.crons import CronRequest
from ..runs.naming import assistant_named
from .bodies import body
from .callers import Caller, ThreadId, may
from .cron_schemas import CronCount, CronCreate, CronPatch, CronSearch
from .shapes import cron_shape, json_response, nothing, page_response, selected

router = APIRouter(tags=["crons"])

CronId = Annotated[UUID, Path(description="Id of a cron.")]
MayCreate = Annotated[Caller, may("crons", "create")]
MaySearch = Annotated[Caller, may("crons", "search")]


@router.post("/runs/crons")
async def create_cron(caller: MayCreate, wanted: Annotated[CronCreate, body(CronCreate)]) -> Response:
    """Run something whenever its time comes, each time on a new thread."""
    return await _create(caller, wanted, thread_id=None)


@router.post("/threads/{thread_id}/runs/crons")
async def create_cron_of_thread(
    caller: MayCreate, thread_id: ThreadId, wanted: Annotated[CronCreate, body(CronCreate)]
) -> Response:
    """Run something on a thread whenever its time comes."""
    return await _create(caller, wanted, thread_id=thread_id)


@router.post("/runs/crons/search")
async def search_crons(caller: MaySearch, wanted: Annotated[CronSearch, body(CronSearch)]) -> Response:
    """Find crons, newest first unless asked otherwise."""
    where = await _filter(caller, wanted, limit=wanted.limit, offset=wanted.offset)
    page = Page(wanted.limit, wanted.offset, wanted.sort_by or "created_at", wanted.sort_order or "desc")
    async with caller.database.connection() as connection:
        found = await records.search(connection, tenant_id=caller.tenant_id, where=where, page=page)
    clock = {"now": datetime.now(UTC)} if "now" in (wanted.select or ()) else {}
    shapes = [selected(cron_shape(cron) | clock, wanted.select) for cron in found.crons]
    return page_response(shapes, total=found.total, offset=wanted.offset)


@router.post("/runs/crons/count")
async def count_crons(caller: MaySearch, wanted: Annotated[CronCount, body(CronCount)]) -> Response:
    """Count crons."""
    where = await _filter(caller, wanted)
    async with caller.database.connection() as connection:
        return json_response(await records.count(connection, tenant_id=caller.tenant_id, where=where))


@router.get("/runs/crons/{cron_id}")
async def get_cron(caller: Annotated[Caller, may("crons", "read")], cron_id: CronId) -> Response:
    """One cron."""
    answer = await caller.ask("crons", "read", cron_id=cron_id)
    found = await crons.get(caller.resources, tenant_id=caller.tenant_id, cron_id=cron_id, held=answer.held)
    return json_response(cron_shape(found))


@router.patch("/runs/crons/{cron_id}")
async def change_cron(
    caller: Annotated[Caller, may("crons", "update")],
    cron_id: CronId,
    wanted: Annotated[CronPatch, body(CronPatch)],
) -> Response:
    """Change a cron; whoever changes what it does becomes its owner."""
    request = wanted.cron_request()
    if request.is_new_work:
        caller.must("threads", "create_run")
    answer = await caller.ask("crons", "update", **_told(caller, request, cron_id))
    changed = await crons.change(
        caller.resources,
        caller.principal,
        cron_id=cron_id,
        request=replace(request, metadata=stamped(answer.metadata, answer.held, changed_only=True)),
        held=answer.held,
    )
    return json_response(cron_shape(changed))


@router.delete("/runs/crons/{cron_id}", status_code=204)
async def delete_cron(caller: Annotated[Caller, may("crons", "delete")], cron_id: CronId) -> Response:
    """Delete a cron; the runs that it has started stay."""
    answer = await caller.ask("crons", "delete", cron_id=cron_id)
    await crons.delete(caller.resources, tenant_id=caller.tenant_id, cron_id=cron_id, held=answer.held)
    return nothing()


async def _create(caller: Caller, wanted: CronCreate, *, thread_id: UUID | None) -> Response:
    caller.must("threads", "create_run")
    request, cron_id = wanted.cron_request(), uuid7()
    answer = await caller.ask("crons", "create", **_told(caller, request, cron_id), thread_id=thread_id)
    made = await crons.create(
        caller.resources,
        caller.principal,
        cron_id=cron_id,
        thread_id=thread_id,
        request=replace(request, metadata=answer.stamped),
    )
    return json_response(cron_shape(made))


def _told(caller: Caller, request: CronRequest, cron_id: UUID) -> dict[str, Any]:
    """What the handlers of a project are told of a cron."""
    return {
        "payload": dict(request.run),
        "schedule": request.changes.get("schedule"),
        "cron_id": cron_id,
        "user_id": caller.principal.subject,
        "end_time": request.changes.get("end_time"),
        "metadata": dict(request.run.get("metadata") or {}),
    }


async def _filter(caller: Caller, wanted: CronCount, *, limit: int = 0, offset: int = 0) -> CronFilter:
    """Which crons the client wants, and may see."""
    answer = await caller.ask(
        "crons",
        "search",
        assistant_id=wanted.assistant_id,
        thread_id=wanted.thread_id,
        metadata=wanted.metadata or {},
        limit=limit,
        offset=offset,
    )
    named = wanted.assistant_id
    return CronFilter(
        assistant_id=None if named is None else assistant_named(caller.resources.catalog, named),
        thread_id=wanted.thread_id,
        enabled=wanted.enabled,
        metadata=answer.metadata,
        held=answer.held,
    )
