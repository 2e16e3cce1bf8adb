"""Assistants over HTTP."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Query
from starlette.responses import Response

from ..errors import Invalid
from ..records import assistants as records
from ..records.assistants import AssistantFilter, Content
from ..records.paging import Page
from ..runs import assistants, introspection
from .bodies import body
from .callers import AssistantId, Caller, may
from .schemas import (
    AssistantCount,
    AssistantCreate,
    AssistantPatch,
    AssistantSearch,
    Text,
    VersionChoice,
    VersionSearch,
)
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
    content = Content(
        graph_id=wanted.graph_id,
        name=wanted.name or "Untitled",
        description=wanted.description,
        config=wanted.config,
        context=wanted.context,
        metadata=wanted.metadata,
    )
    made = await assistants.create(
        caller.resources,
        tenant_id=caller.tenant_id,
        assistant_id=wanted.assistant_id or uuid4(),
        content=content,
        keep_existing=wanted.if_exists == "do_nothing",
    )
    return json_response(assistant_shape(made))


@router.post("/search")
async def search_assistants(
    caller: MaySearch, wanted: Annotated[AssistantSearch, body(AssistantSearch)]
) -> Response:
    """Find assistants, newest first unless asked otherwise."""
    where = AssistantFilter(graph_id=wanted.graph_id, name=wanted.name, metadata=wanted.metadata)
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
    where = AssistantFilter(graph_id=wanted.graph_id, name=wanted.name, metadata=wanted.metadata)
    async with caller.database.connection() as connection:
        return json_response(await records.count(connection, tenant_id=caller.tenant_id, where=where))


@router.get("/{assistant_id}")
async def get_assistant(caller: MayRead, assistant_id: AssistantId) -> Response:
    """One assistant."""
    found = await assistants.get(caller.resources, tenant_id=caller.tenant_id, assistant_id=assistant_id)
    return json_response(assistant_shape(found))


@router.patch("/{assistant_id}")
async def change_assistant(
    caller: Annotated[Caller, may("assistants", "update")],
    assistant_id: AssistantId,
    wanted: Annotated[AssistantPatch, body(AssistantPatch)],
) -> Response:
    """Make the next version of an assistant."""
    changed = await assistants.change(
        caller.resources, tenant_id=caller.tenant_id, assistant_id=assistant_id, changes=wanted.changes()
    )
    return json_response(assistant_shape(changed))


@router.delete("/{assistant_id}", status_code=204)
async def delete_assistant(
    caller: Annotated[Caller, may("assistants", "delete")],
    assistant_id: AssistantId,
    delete_threads: Annotated[bool, Query()] = False,
) -> Response:
    """Delete an assistant with its versions and, if asked, the threads that last ran it."""
    await assistants.delete(
        caller.resources,
        tenant_id=caller.tenant_id,
        assistant_id=assistant_id,
        with_threads=delete_threads,
    )
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
    )
    return json_response([version_shape(one) for one in found])


@router.post("/{assistant_id}/latest")
async def choose_version(
    caller: Annotated[Caller, may("assistants", "update")],
    assistant_id: AssistantId,
    wanted: Annotated[VersionChoice, body(VersionChoice)],
) -> Response:
    """Return to an older version."""
    restored = await assistants.restore(
        caller.resources, tenant_id=caller.tenant_id, assistant_id=assistant_id, version=wanted.version
    )
    return json_response(assistant_shape(restored))


@router.get("/{assistant_or_graph}/graph")
async def draw_graph(
    caller: MayRead, assistant_or_graph: Text, xray: Annotated[Text, Query()] = "false"
) -> Response:
    """Nodes and edges of the assistant's graph; with `xray` those of its sub-graphs too."""
    drawing = await introspection.draw(
        caller.resources, caller.principal, assistant_or_graph, xray=_depth(xray)
    )
    return json_response(drawing)


@router.get("/{assistant_or_graph}/schemas")
async def graph_schemas(caller: MayRead, assistant_or_graph: Text) -> Response:
    """JSON Schemas of what the assistant's graph takes, holds and returns."""
    return json_response(await introspection.schemas(caller.resources, caller.principal, assistant_or_graph))


@router.get("/{assistant_or_graph}/subgraphs")
@router.get("/{assistant_or_graph}/subgraphs/{namespace}")
async def list_subgraphs(
    caller: MayRead,
    assistant_or_graph: Text,
    namespace: Text | None = None,
    recurse: Annotated[bool, Query()] = False,
) -> Response:
    """Schemas of the sub-graphs, by namespace."""
    found = await introspection.subgraphs(
        caller.resources, caller.principal, assistant_or_graph, namespace=namespace, recurse=recurse
    )
    return json_response(found)


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
