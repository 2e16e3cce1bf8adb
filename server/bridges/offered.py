"""The assistants of a tenant as other protocols offer them: by names of their own, with what they take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from ..api.callers import Caller
from ..domain import Assistant, default_assistant_id
from ..errors import NotFound, ServerError
from ..records import assistants
from ..records.assistants import AssistantFilter
from ..records.paging import Page
from ..runs import introspection

MESSAGES = "messages"
_PAGE = 1000
_LONGEST_NAME = 64
_UNUSUAL = re.compile(r"[^A-Za-z0-9_-]+")
"""What a tool may not have in its name: models refuse it."""

CONVERSATION: Mapping[str, Any] = {"type": "string", "description": "What to say to the assistant."}
"""What stands for the messages of a graph, where only one is to be given."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the graph of an assistant takes."""

    schema: dict[str, Any]
    """JSON Schema of its input; messages are one text."""
    talks: bool
    """Whether it has messages."""


async def offered(caller: Caller) -> dict[str, Assistant]:
    """Every assistant that the caller may find, under a name of its own.

    The default assistant of a graph has the graph's name. Of several with one name the oldest has it,
    the others get a part of their id behind it, so that a name never changes hands.
    """
    answer = await caller.ask("assistants", "search", graph_id=None, metadata={}, limit=_PAGE, offset=0)
    where = AssistantFilter(metadata=answer.metadata, held=answer.held)
    found: list[Assistant] = []
    async with caller.database.connection() as connection:
        while True:
            page = Page(_PAGE, len(found), "created_at", "asc")
            read = await assistants.search(connection, tenant_id=caller.tenant_id, where=where, page=page)
            found += read.assistants
            if len(read.assistants) < _PAGE:
                break
        graph_ids = caller.resources.catalog.graph_ids
        if where.held is not None or where.metadata:
            # The one that each graph has by itself is everybody's to run, whoever may see which others.
            defaults = [
                await assistants.get(
                    connection, tenant_id=caller.tenant_id, assistant_id=default_assistant_id(graph_id)
                )
                for graph_id in graph_ids
            ]
            found += [one for one in defaults if one is not None and one not in found]
    return named(one for one in found if one.graph_id in graph_ids)


def named(found: Iterable[Assistant]) -> dict[str, Assistant]:
    """Names for assistants, which come oldest first."""
    names: dict[str, Assistant] = {}
    for assistant in sorted(found, key=lambda one: not _is_default(one)):
        name = _name(assistant)
        for length in (8, 32):
            if name in names:
                name = (
                    f"{_name(assistant)[: _LONGEST_NAME - 1 - length]}_{assistant.assistant_id.hex[:length]}"
                )
        names[name] = assistant
    return names


def find(names: Mapping[str, Assistant], wanted: str) -> Assistant | None:
    """The assistant that a client means: by its name here, or by its id."""
    if (found := names.get(wanted)) is not None:
        return found
    try:
        identity = UUID(wanted)
    except ValueError:
        return None
    return next((one for one in names.values() if one.assistant_id == identity), None)


async def assistant_named(caller: Caller, wanted: str) -> Assistant:
    """The assistant that a client means: by its name here, or by its id.

    Raises:
        NotFound: there is none, or the caller may not find it.
    """
    found = find(await offered(caller), wanted)
    if found is None:
        raise NotFound(f"Assistant {wanted!r} not found")
    return found


async def form_of(caller: Caller, assistant: Assistant) -> Form:
    """What an assistant takes.

    Raises:
        ServerError: its graph cannot be opened, or the caller may not see what is in it.
    """
    assistant_id = assistant.assistant_id
    held = None
    if not _is_default(assistant):
        held = (await caller.ask("assistants", "read", assistant_id=assistant_id, metadata={})).held
    schemas = await introspection.schemas(caller.resources, caller.principal, str(assistant_id), held=held)
    schema = schemas["input_schema"] or {}
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        return Form(schema={"type": "object"}, talks=False)
    talks = MESSAGES in properties
    if talks:
        required = sorted({*schema.get("required", ()), MESSAGES})
        schema = {
            **schema,
            "properties": {**properties, MESSAGES: dict(CONVERSATION)},
            "required": required,
        }
    if b'"$ref"' not in orjson.dumps(schema["properties"]):
        schema = {name: part for name, part in schema.items() if name != "$defs"}
    return Form(schema=schema, talks=talks)


async def form_or_none(caller: Caller, assistant: Assistant) -> Form | None:
    """What an assistant takes; None when nobody can say, as where its factory fails.

    That hides no other assistant, and whoever runs it is told.
    """
    try:
        return await form_of(caller, assistant)
    except ServerError:
        return None


def _is_default(assistant: Assistant) -> bool:
    return assistant.assistant_id == default_assistant_id(assistant.graph_id)


def _name(assistant: Assistant) -> str:
    given = assistant.graph_id if _is_default(assistant) else assistant.name
    return _UNUSUAL.sub("_", given)[:_LONGEST_NAME].strip("_") or assistant.graph_id
