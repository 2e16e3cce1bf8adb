"""The state of threads over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from ..encoding import encode
from ..runs import state
from ..runs.state import Place, Update
from .bodies import body
from .callers import Caller, ThreadId, may
from .schemas import HistorySearch, Limit, StateRead, StateWrite, Text
from .shapes import selected

router = APIRouter(prefix="/threads/{thread_id}", tags=["threads"])

MayRead = Annotated[Caller, may("threads", "read")]
Select = Annotated[list[Text] | None, Query(description="Fields of the state that are wanted.")]


@router.get("/state")
async def get_state(
    caller: MayRead,
    thread_id: ThreadId,
    subgraphs: Annotated[bool, Query()] = False,
    select: Select = None,
) -> Response:
    """The present state."""
    return await _state(caller, thread_id, Place(), subgraphs=subgraphs, select=select)


@router.get("/state/{checkpoint_id}")
async def get_state_at(
    caller: MayRead,
    thread_id: ThreadId,
    checkpoint_id: Text,
    subgraphs: Annotated[bool, Query()] = False,
    select: Select = None,
) -> Response:
    """The state at a checkpoint; without values when there is no such checkpoint."""
    place = Place(checkpoint_id=checkpoint_id)
    return await _state(caller, thread_id, place, subgraphs=subgraphs, select=select)


@router.post("/state/checkpoint")
async def get_state_of(
    caller: MayRead, thread_id: ThreadId, wanted: Annotated[StateRead, body(StateRead)]
) -> Response:
    """The state at a checkpoint, also of a sub-graph."""
    place = wanted.checkpoint.place()
    return await _state(caller, thread_id, place, subgraphs=wanted.subgraphs, select=wanted.select)


@router.post("/state")
async def update_state(
    caller: Annotated[Caller, may("threads", "update")],
    thread_id: ThreadId,
    wanted: Annotated[StateWrite, body(StateWrite)],
) -> Response:
    """Write into a thread that no run is on; an empty body writes nothing and is shown the present state."""
    if not wanted.writes:
        caller.must("threads", "read")
        return await _state(caller, thread_id, Place(), subgraphs=False, select=None)
    answer = await caller.ask("threads", "update", thread_id=thread_id, metadata={})
    checkpoint = await state.update(
        caller.resources,
        caller.principal,
        thread_id=thread_id,
        updates=[[Update(values=wanted.values, as_node=wanted.as_node)]],
        place=wanted.place(),
        held=answer.held,
    )
    return _encoded(
        {
            "checkpoint": checkpoint,
            "configurable": checkpoint,
            "checkpoint_id": checkpoint.get("checkpoint_id"),
        }
    )


@router.get("/history")
async def get_history(
    caller: MayRead,
    thread_id: ThreadId,
    limit: Annotated[Limit, Query()] = 1,
    before: Annotated[Text | None, Query()] = None,
) -> Response:
    """States of a thread, newest first."""
    answer = await caller.ask("threads", "read", thread_id=thread_id)
    states = state.history(
        caller.resources,
        caller.principal,
        thread_id=thread_id,
        limit=limit,
        before=Place(checkpoint_id=before) if before else None,
        held=answer.held,
    )
    return await _encoded_list(states)


@router.post("/history")
async def search_history(
    caller: MayRead, thread_id: ThreadId, wanted: Annotated[HistorySearch, body(HistorySearch)]
) -> Response:
    """States of a thread or of one of its sub-graphs, newest first."""
    answer = await caller.ask("threads", "read", thread_id=thread_id)
    states = state.history(
        caller.resources,
        caller.principal,
        thread_id=thread_id,
        limit=wanted.limit,
        before=wanted.before.place() if wanted.before else None,
        metadata=wanted.metadata,
        checkpoint_ns=wanted.checkpoint.checkpoint_ns,
        held=answer.held,
    )
    return await _encoded_list(states, wanted.select)


async def _state(
    caller: Caller, thread_id: ThreadId, place: Place, *, subgraphs: bool, select: list[str] | None
) -> Response:
    answer = await caller.ask("threads", "read", thread_id=thread_id)
    found = await state.read(
        caller.resources,
        caller.principal,
        thread_id=thread_id,
        place=place,
        subgraphs=subgraphs,
        held=answer.held,
    )
    return _encoded(selected(found, select))


async def _encoded_list(
    states: AsyncIterator[Mapping[str, Any]], select: list[str] | None = None
) -> Response:
    texts = [encode(selected(one, select)) async for one in states]
    return Response(b"[%b]" % b",".join(texts), media_type="application/json")


def _encoded(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
