"""Assistants over HTTP."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from starlette.responses import Response

from ..errors import Invalid
from ..records import assistants as records
from ..records.assistants import AssistantFilter, Content
from ..records.held import Held, stamped
from ..records.paging import Page
from ..runs import assistants, cancel, introspection
from .assistant_schemas import (
    AssistantCount,
    AssistantCreate,
    AssistantPatch,
    AssistantSearch,
    VersionChoice,
    VersionSearch,
)
from .bodies import body
from .callers import AssistantId, Caller, may
from .schemas import Text
from .shapes import assistant_shape, json_response, nothing, page_response, selected, version_shape

router = APIRouter(prefix="/assistants", tags=["assistants"])

_DEPTH = re.compile(r"[1-9][0-9]?|100")

MayRead = Annotated[Caller, may("assistants", "read")]
MaySearch = Annotated[Caller, may("assistants", "search")]


@router.post("")
async def create_assistant(
    caller: Annotated[Caller, may("assistants", "create")],
    wanted: Annotated[AssistantCreate, body(AssistantCreate)],
) -> Response:
    """Save a configuration of a graph."""
    assistant_id = wanted.assistant_id or uuid4()
    answer = await caller.ask(
        "assistants",
        "create",
        assistant_id=assistant_id,
        graph_id=wanted.graph_id,
        config=wanted.config,
        context=wanted.context,
        metadata=wanted.metadata,
        if_exists=wanted.if_exists,
        name=wanted.name or "Untitled",
    )
    content = Content(
        graph_id=wanted.graph_id,
        name=answer.value["name"],
        description=wanted.description,
        config=answer.value["config"],
        context=answer.value["context"],
        metadata=answer.stamped,
    )
    made = await assistants.create(
        caller.resources,
        tenant_id=caller.tenant_id,
        assistant_id=assistant_id,
        content=content,
        held=answer.held,
        keep_existing=wanted.if_exists == "do_nothing",
    )
    return json_response(assistant_shape(made))


@router.post("/search")
async def search_assistants(
    caller: MaySearch, wanted: Annotated[AssistantSearch, body(AssistantSearch)]
) -> Response:
    """Find assistants, newest first unless asked otherwise."""
    where = await _filter(caller, wanted, limit=wanted.limit, offset=wanted.offset)
    page = Page(wanted.limit, wanted.offset, wanted.sort_by or "created_at", wanted.sort_order or "desc")
    async with caller.database.connection() as connection:
        found = await records.search(connection, tenant_id=caller.tenant_id, where=where, page=page)
    shapes = [selected(assistant_shape(one), wanted.select) for one in found.assistants]
    return page_response(shapes, total=found.total, offset=wanted.offset)


@router.post("/count")
async def count_assistants(
    caller: MaySearch, wanted: Annotated[AssistantCount, body(AssistantCount)]
) -> Response:
    """Count assistants."""
    where = await _filter(caller, wanted)
    async with caller.database.connection() as connection:
        return json_response(await records.count(connection, tenant_id=caller.tenant_id, where=where))


@router.get("/{assistant_id}")
async def get_assistant(caller: MayRead, assistant_id: AssistantId) -> Response:
    """One assistant."""
    held = await _readable(caller, assistant_id)
    found = await assistants.get(
        caller.resources, tenant_id=caller.tenant_id, assistant_id=assistant_id, held=held
    )
    return json_response(assistant_shape(found))


@router.patch("/{assistant_id}")
async def change_assistant(
    caller: Annotated[Caller, may("assistants", "update")],
    assistant_id: AssistantId,
    wanted: Annotated[AssistantPatch, body(AssistantPatch)],
) -> Response:
    """Make the next version of an assistant."""
    changes = wanted.changes()
    asked = {"metadata": {}, **changes}
    answer = await caller.ask("assistants", "update", assistant_id=assistant_id, **asked)
    changes |= {name: answer.value[name] for name in changes.keys() & {"config", "context", "name"}}
    if metadata := stamped(answer.metadata, answer.held, changed_only=True):
        changes["metadata"] = metadata
    changed = await assistants.change(
        caller.resources,
        tenant_id=caller.tenant_id,
        assistant_id=assistant_id,
        changes=changes,
        held=answer.held,
    )
    return json_response(assistant_shape(changed))


@router.delete("/{assistant_id}", status_code=204)
async def delete_assistant(
    caller: Annotated[Caller, may("assistants", "delete")],
    assistant_id: AssistantId,
    delete_threads: Annotated[bool, Query()] = False,
) -> Response:
    """Delete an assistant with its versions and, if asked, the threads that last ran it.

    Its runs in flight are interrupted; what has run with it stays.
    """
    answer = await caller.ask("assistants", "delete", assistant_id=assistant_id)
    threads_held = None
    if delete_threads:
        caller.must("threads", "delete")
        threads_held = (await caller.ask("threads", "delete", assistant_id=assistant_id)).held
    await assistants.delete(
        caller.resources,
        tenant_id=caller.tenant_id,
        assistant_id=assistant_id,
        with_threads=delete_threads,
        held=answer.held,
        threads_held=threads_held,
    )
    await cancel.stop_of_assistant(caller.resources, caller.principal, assistant_id=assistant_id)
    return nothing()


@router.post("/{assistant_id}/versions")
async def list_versions(
    caller: MayRead, assistant_id: AssistantId, wanted: Annotated[VersionSearch, body(VersionSearch)]
) -> Response:
    """Versions of an assistant, newest first."""
    found = await assistants.versions(
        caller.resources,
        tenant_id=caller.tenant_id,
        assistant_id=assistant_id,
        metadata=wanted.metadata,
        limit=wanted.limit,
        offset=wanted.offset,
        held=await _readable(caller, assistant_id),
    )
    return json_response([version_shape(one) for one in found])


@router.post("/{assistant_id}/latest")
async def choose_version(
    caller: Annotated[Caller, may("assistants", "update")],
    assistant_id: AssistantId,
    wanted: Annotated[VersionChoice, body(VersionChoice)],
) -> Response:
    """Return to an older version."""
    answer = await caller.ask(
        "assistants", "update", assistant_id=assistant_id, version=wanted.version, metadata={}
    )
    restored = await assistants.restore(
        caller.resources,
        tenant_id=caller.tenant_id,
        assistant_id=assistant_id,
        version=wanted.version,
        held=answer.held,
    )
    return json_response(assistant_shape(restored))


@router.get("/{assistant_or_graph}/graph")
async def draw_graph(
    caller: MayRead, assistant_or_graph: Text, xray: Annotated[Text, Query()] = "false"
) -> Response:
    """Nodes and edges of the assistant's graph; with `xray` those of its sub-graphs too."""
    depth = _depth(xray)
    held = await _readable(caller, introspection.assistant_id_of(caller.resources, assistant_or_graph))
    drawing = await introspection.draw(
        caller.resources, caller.principal, assistant_or_graph, xray=depth, held=held
    )
    return json_response(drawing)


@router.get("/{assistant_or_graph}/schemas")
async def graph_schemas(caller: MayRead, assistant_or_graph: Text) -> Response:
    """JSON Schemas of what the assistant's graph takes, holds and returns."""
    held = await _readable(caller, introspection.assistant_id_of(caller.resources, assistant_or_graph))
    found = await introspection.schemas(caller.resources, caller.principal, assistant_or_graph, held=held)
    return json_response(found)


@router.get("/{assistant_or_graph}/subgraphs")
@router.get("/{assistant_or_graph}/subgraphs/{namespace}")
async def list_subgraphs(
    caller: MayRead,
    assistant_or_graph: Text,
    namespace: Text | None = None,
    recurse: Annotated[bool, Query()] = False,
) -> Response:
    """Schemas of the sub-graphs, by namespace."""
    held = await _readable(caller, introspection.assistant_id_of(caller.resources, assistant_or_graph))
    found = await introspection.subgraphs(
        caller.resources,
        caller.principal,
        assistant_or_graph,
        namespace=namespace,
        recurse=recurse,
        held=held,
    )
    return json_response(found)


async def _readable(caller: Caller, assistant_id: UUID) -> Held:
    """What an assistant must hold for the caller to read it."""
    return (await caller.ask("assistants", "read", assistant_id=assistant_id, metadata={})).held


async def _filter(
    caller: Caller, wanted: AssistantCount, *, limit: int = 0, offset: int = 0
) -> AssistantFilter:
    """Which assistants the client wants, and may see."""
    answer = await caller.ask(
        "assistants",
        "search",
        graph_id=wanted.graph_id,
        metadata=wanted.metadata or {},
        limit=limit,
        offset=offset,
    )
    return AssistantFilter(
        graph_id=wanted.graph_id, name=wanted.name, metadata=answer.metadata, held=answer.held
    )


def _depth(xray: str) -> bool | int:
    match xray.lower():
        case "true":
            return True
        case "false" | "":
            return False
        case digits if _DEPTH.fullmatch(digits):
            return int(digits)
        case _:
            raise Invalid(f"xray: must be true, false or a number from 1 to 100, not {xray!r}")
