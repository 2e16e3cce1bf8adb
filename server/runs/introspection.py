"""What a graph looks like from outside: its drawing, its schemas, its sub-graphs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast, get_type_hints
from uuid import UUID

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph, StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol
from pydantic import BaseModel, TypeAdapter, create_model
from pydantic.errors import PydanticUserError

from ...tools.policy.permissions import Principal
from ..domain import default_assistant_id
from ..encoding import JsonObject
from ..errors import Invalid
from ..records.held import Held
from . import assistants

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

SCHEMAS = ("input_schema", "output_schema", "state_schema", "config_schema", "context_schema")


async def draw(
    resources: Resources,
    principal: Principal,
    assistant_or_graph: str,
    *,
    xray: bool | int,
    held: Held = None,
) -> JsonObject:
    """Nodes and edges of an assistant's graph, those of sub-graphs inside to the depth `xray`.

    Raises:
        NotFound: no such assistant.
        Invalid: it is neither a UUID nor a graph.
    """
    async with _opened(resources, principal, assistant_or_graph, held) as (graph, _, config):
        drawing = (await graph.aget_graph(config, xray=xray)).to_json()
    for node in drawing["nodes"]:
        # The import path of a node's class is nobody's business.
        if isinstance(data := node.get("data"), dict):
            node["data"] = {"name": data.get("name")}
    return drawing


async def schemas(
    resources: Resources, principal: Principal, assistant_or_graph: str, *, held: Held = None
) -> JsonObject:
    """JSON Schemas of an assistant's graph; null where a type has none.

    Raises:
        NotFound: no such assistant.
        Invalid: it is neither a UUID nor a graph.
    """
    async with _opened(resources, principal, assistant_or_graph, held) as (graph, graph_id, _):
        return {"graph_id": graph_id, **_schemas(graph)}


async def takes(
    resources: Resources, principal: Principal, assistant_or_graph: str, value: Any, *, held: Held
) -> bool:
    """Whether a value is an input of an assistant's graph: whether it names one of the fields.

    A graph that declares none, such as an entrypoint that is given a text, takes everything.

    Raises:
        NotFound: no such assistant.
        Invalid: it is neither a UUID nor a graph.
    """
    async with _opened(resources, principal, assistant_or_graph, held) as (graph, _, _):
        fields: JsonObject = (_schemas(graph)["input_schema"] or {}).get("properties", {})
    if not fields:
        return True
    return isinstance(value, dict) and not fields.keys().isdisjoint(cast("JsonObject", value))


async def subgraphs(
    resources: Resources,
    principal: Principal,
    assistant_or_graph: str,
    *,
    namespace: str | None,
    recurse: bool,
    held: Held = None,
) -> JsonObject:
    """Schemas of the sub-graphs by namespace; only the named one, if one is named.

    Raises:
        NotFound: no such assistant.
        Invalid: it is neither a UUID nor a graph.
    """
    async with _opened(resources, principal, assistant_or_graph, held) as (graph, _, _):
        found = graph.aget_subgraphs(namespace=namespace, recurse=recurse)
        return {name: _schemas(subgraph) async for name, subgraph in found}


@asynccontextmanager
async def _opened(
    resources: Resources, principal: Principal, assistant_or_graph: str, held: Held
) -> AsyncIterator[tuple[Pregel, str, RunnableConfig]]:
    assistant = await assistants.get(
        resources,
        tenant_id=principal.tenant,
        assistant_id=assistant_id_of(resources, assistant_or_graph),
        held=held,
    )
    config: RunnableConfig = {"configurable": assistant.config.get("configurable") or {}}
    store = resources.store(principal.tenant)
    async with resources.catalog.open(
        assistant.graph_id, config=config, access="assistants.read", principal=principal, store=store
    ) as graph:
        yield graph, assistant.graph_id, config


def assistant_id_of(resources: Resources, assistant_or_graph: str) -> UUID:
    """The id of an assistant that is named by it, or by the graph whose default assistant it is.

    Raises:
        Invalid: it is neither.
    """
    if assistant_or_graph in resources.catalog.graph_ids:
        return default_assistant_id(assistant_or_graph)
    try:
        return UUID(assistant_or_graph)
    except ValueError:
        raise Invalid("Invalid assistant ID: must be a UUID, or the name of a graph") from None


def _state_schema(builder: StateGraph[Any, Any, Any, Any] | None) -> JsonObject | None:
    """The schema of a state that has one itself, with all that its author wrote into it."""
    declared = builder and builder.state_schema
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        return declared.model_json_schema()
    return None


def _schemas(graph: PregelProtocol) -> JsonObject:
    if not isinstance(graph, Pregel):
        return dict.fromkeys(SCHEMAS)
    context = _schema(graph.get_context_jsonschema)
    builder = graph.builder if isinstance(graph, CompiledStateGraph) else None
    declared = {
        "input": (graph.get_input_jsonschema, builder and builder.input_schema),
        "output": (graph.get_output_jsonschema, builder and builder.output_schema),
        "state": (partial(_state_schema, builder), builder and builder.state_schema),
    }
    found = {
        f"{part}_schema": _schema(make) or _schema(partial(_of_fields, graph.get_name(part), kind))
        for part, (make, kind) in declared.items()
    }
    return {**found, "config_schema": context, "context_schema": context}


def _of_fields(name: str, declared: type | None) -> JsonObject | None:
    """A schema from the fields of a state, for the types of which pydantic describes only parts."""
    if declared is None:
        return None
    fields = {
        field: (hint if _schema(partial(_of_type, hint)) else Any, None)
        for field, hint in get_type_hints(declared).items()
    }
    return create_model(name, **cast("Any", fields)).model_json_schema()


def _of_type(hint: Any) -> JsonObject:
    return TypeAdapter(hint).json_schema()


def _schema(make: Callable[[], JsonObject | None]) -> JsonObject | None:
    try:
        return make()
    except (PydanticUserError, ValueError, TypeError, NameError) as error:
        # A type of the user's that has no schema; the graph runs all the same.
        log.debug("schema_unavailable", reason=str(error))
        return None
