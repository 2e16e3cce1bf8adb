"""Threads over HTTP; their state is in `state.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from uuid_utils.compat import uuid7

from ..errors import Invalid
from ..records import threads as records
from ..records.held import stamped
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
    thread_id = wanted.thread_id or uuid7()
    answer = await caller.ask(
        "threads", "create", thread_id=thread_id, metadata=wanted.metadata, if_exists=wanted.if_exists
    )
    made = await threads.create(
        caller.resources,
        caller.principal,
        thread_id=thread_id,
        metadata=answer.stamped,
        held=answer.held,
        keep_existing=wanted.if_exists == "do_nothing",
        supersteps=wanted.updates(),
        ttl=wanted.ttl.ttl_of() if wanted.ttl else None,
    )
    return json_response(thread_shape(made))


@router.post("/search")
async def search_threads(caller: MaySearch, wanted: Annotated[ThreadSearch, body(ThreadSearch)]) -> Response:
    """Find threads, last changed first unless asked otherwise."""
    extract = paths(wanted.extract or {})
    page = Page(wanted.limit, wanted.offset, wanted.sort_by or "updated_at", wanted.sort_order or "desc")
    where = await _filter(caller, wanted, ids=wanted.ids, limit=wanted.limit, offset=wanted.offset)
    async with caller.database.connection() as connection:
        found = await records.search(
            connection,
            tenant_id=caller.tenant_id,
            where=where,
            page=page,
            with_values=not wanted.select or "values" in wanted.select or bool(extract),
        )
    shapes = [thread_shape(thread) for thread in found.threads]
    rows = [selected(shape, wanted.select) | extracted(shape, extract) for shape in shapes]
    return page_response(rows, total=found.total, offset=wanted.offset)


@router.post("/count")
async def count_threads(caller: MaySearch, wanted: Annotated[ThreadCount, body(ThreadCount)]) -> Response:
    """Count threads."""
    where = await _filter(caller, wanted)
    async with caller.database.connection() as connection:
        total = await records.count(connection, tenant_id=caller.tenant_id, where=where)
    return json_response(total)


@router.post("/prune")
async def prune_threads(
    caller: Annotated[Caller, may("threads", "delete")], wanted: Annotated[ThreadPrune, body(ThreadPrune)]
) -> Response:
    """Delete threads, or cut them down to their last state; busy ones are left alone."""
    answer = await caller.ask("threads", "delete", thread_ids=wanted.thread_ids)
    pruned = await threads.prune(
        caller.resources,
        tenant_id=caller.tenant_id,
        thread_ids=wanted.thread_ids,
        keep_latest=wanted.strategy == "keep_latest",
        held=answer.held,
    )
    return json_response({"pruned_count": pruned})


@router.get("/{thread_id}")
async def get_thread(
    caller: MayRead, thread_id: ThreadId, include: Annotated[list[Text] | None, Query()] = None
) -> Response:
    """One thread; `include=ttl` shows how long it is kept."""
    with_ttl = _includes_ttl(include or ())
    answer = await caller.ask("threads", "read", thread_id=thread_id)
    found = await threads.get(
        caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, held=answer.held
    )
    return json_response(thread_shape(found, with_ttl=with_ttl))


@router.get("/{thread_id}/storage")
async def get_thread_storage(caller: MayRead, thread_id: ThreadId) -> Response:
    """Bytes that the checkpoints of a thread take as they are stored, by kind and by channel."""
    answer = await caller.ask("threads", "read", thread_id=thread_id)
    found = await threads.storage(
        caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, held=answer.held
    )
    return json_response({"thread_id": thread_id} | found)


@router.patch("/{thread_id}")
async def change_thread(
    caller: Annotated[Caller, may("threads", "update")],
    thread_id: ThreadId,
    wanted: Annotated[ThreadPatch, body(ThreadPatch)],
    prefer: Annotated[Text, Header()] = "",
) -> Response:
    """Merge into a thread's metadata, and set how long it is kept."""
    answer = await caller.ask("threads", "update", thread_id=thread_id, metadata=wanted.metadata)
    changed = await threads.change(
        caller.resources,
        tenant_id=caller.tenant_id,
        thread_id=thread_id,
        metadata=stamped(answer.metadata, answer.held, changed_only=True),
        ttl=wanted.ttl.ttl_of() if wanted.ttl else None,
        held=answer.held,
    )
    return nothing() if "return=minimal" in prefer else json_response(thread_shape(changed))


@router.delete("/{thread_id}", status_code=204)
async def delete_thread(caller: Annotated[Caller, may("threads", "delete")], thread_id: ThreadId) -> Response:
    """Delete a thread with all it holds; its runs are stopped."""
    answer = await caller.ask("threads", "delete", thread_id=thread_id)
    await threads.delete(caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, held=answer.held)
    return nothing()


@router.post("/{thread_id}/copy")
async def copy_thread(caller: Annotated[Caller, may("threads", "create")], thread_id: ThreadId) -> Response:
    """Copy a thread with its whole history."""
    new_thread_id = uuid4()
    original = await caller.ask("threads", "read", thread_id=thread_id)
    made = await caller.ask("threads", "create", thread_id=new_thread_id)
    copied = await threads.copy(
        caller.resources,
        tenant_id=caller.tenant_id,
        thread_id=thread_id,
        new_thread_id=new_thread_id,
        metadata=made.stamped,
        held=original.held,
    )
    return json_response(thread_shape(copied))


async def _filter(
    caller: Caller, wanted: ThreadCount, *, ids: list[UUID] | None = None, limit: int = 0, offset: int = 0
) -> ThreadFilter:
    """Which threads the client wants, and may see."""
    answer = await caller.ask(
        "threads",
        "search",
        metadata=wanted.metadata or {},
        values=wanted.values or {},
        status=wanted.status,
        limit=limit,
        offset=offset,
    )
    return ThreadFilter(
        ids=ids,
        metadata=answer.metadata,
        values=wanted.values,
        status=wanted.status,
        held=answer.held,
    )


def _includes_ttl(include: Sequence[str]) -> bool:
    """Whether a comma-separated or repeated `include` names the one thing there is to include."""
    names = {name.strip() for given in include for name in given.split(",")} - {""}
    if unknown := names - {"ttl"}:
        raise Invalid(f"include: there is no {min(unknown)!r}; only `ttl` can be included")
    return "ttl" in names
