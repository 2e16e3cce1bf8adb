"""Threads over HTTP; their state is in `state.py`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from ..records import threads as records
from ..records.paging import Page
from ..records.threads import ThreadFilter
from ..runs import threads
from .bodies import body
from .callers import Caller, ThreadId, may
from .extract import extracted, paths
from .schemas import Text, ThreadCount, ThreadCreate, ThreadPatch, ThreadPrune, ThreadSearch
from .shapes import json_response, nothing, page_response, selected, thread_shape

router = APIRouter(prefix="/threads", tags=["threads"])

MayRead = Annotated[Caller, may("threads", "read")]
MaySearch = Annotated[Caller, may("threads", "search")]


@router.post("")
async def create_thread(
    caller: Annotated[Caller, may("threads", "create")], wanted: Annotated[ThreadCreate, body(ThreadCreate)]
) -> Response:
    """Make a thread, with the state of the given supersteps."""
    made = await threads.create(
        caller.resources,
        caller.principal,
        thread_id=wanted.thread_id,
        metadata=wanted.metadata,
        keep_existing=wanted.if_exists == "do_nothing",
        supersteps=wanted.updates(),
    )
    return json_response(thread_shape(made))


@router.post("/search")
async def search_threads(caller: MaySearch, wanted: Annotated[ThreadSearch, body(ThreadSearch)]) -> Response:
    """Find threads, last changed first unless asked otherwise."""
    extract = paths(wanted.extract or {})
    page = Page(wanted.limit, wanted.offset, wanted.sort_by or "updated_at", wanted.sort_order or "desc")
    async with caller.database.connection() as connection:
        found = await records.search(
            connection,
            tenant_id=caller.tenant_id,
            where=_filter(wanted, wanted.ids),
            page=page,
            with_values=not wanted.select or "values" in wanted.select or bool(extract),
        )
    shapes = [thread_shape(thread) for thread in found.threads]
    rows = [selected(shape, wanted.select) | extracted(shape, extract) for shape in shapes]
    return page_response(rows, total=found.total, offset=wanted.offset)


@router.post("/count")
async def count_threads(caller: MaySearch, wanted: Annotated[ThreadCount, body(ThreadCount)]) -> Response:
    """Count threads."""
    async with caller.database.connection() as connection:
        total = await records.count(connection, tenant_id=caller.tenant_id, where=_filter(wanted))
    return json_response(total)


@router.post("/prune")
async def prune_threads(
    caller: Annotated[Caller, may("threads", "delete")], wanted: Annotated[ThreadPrune, body(ThreadPrune)]
) -> Response:
    """Delete threads, or cut them down to their last state; busy ones are left alone."""
    pruned = await threads.prune(
        caller.resources,
        tenant_id=caller.tenant_id,
        thread_ids=wanted.thread_ids,
        keep_latest=wanted.strategy == "keep_latest",
    )
    return json_response({"pruned_count": pruned})


@router.get("/{thread_id}")
async def get_thread(caller: MayRead, thread_id: ThreadId) -> Response:
    """One thread."""
    found = await threads.get(caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id)
    return json_response(thread_shape(found))


@router.get("/{thread_id}/storage")
async def get_thread_storage(caller: MayRead, thread_id: ThreadId) -> Response:
    """Bytes that the checkpoints of a thread take as they are stored, by kind and by channel."""
    found = await threads.storage(caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id)
    return json_response({"thread_id": thread_id} | found)


@router.patch("/{thread_id}")
async def change_thread(
    caller: Annotated[Caller, may("threads", "update")],
    thread_id: ThreadId,
    wanted: Annotated[ThreadPatch, body(ThreadPatch)],
    prefer: Annotated[Text, Header()] = "",
) -> Response:
    """Merge into a thread's metadata."""
    changed = await threads.merge_metadata(
        caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, metadata=wanted.metadata
    )
    return nothing() if "return=minimal" in prefer else json_response(thread_shape(changed))


@router.delete("/{thread_id}", status_code=204)
async def delete_thread(caller: Annotated[Caller, may("threads", "delete")], thread_id: ThreadId) -> Response:
    """Delete a thread with all it holds; its runs are stopped."""
    await threads.delete(caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id)
    return nothing()


@router.post("/{thread_id}/copy")
async def copy_thread(caller: Annotated[Caller, may("threads", "create")], thread_id: ThreadId) -> Response:
    """Copy a thread with its whole history."""
    copied = await threads.copy(caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id)
    return json_response(thread_shape(copied))


def _filter(wanted: ThreadCount, ids: list | None = None) -> ThreadFilter:
    return ThreadFilter(ids=ids, metadata=wanted.metadata, values=wanted.values, status=wanted.status)
