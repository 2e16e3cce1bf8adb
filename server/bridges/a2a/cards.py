"""Agent cards: who an assistant is, what it takes, and where it is spoken to."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...api.callers import Caller, may
from ...api.schemas import Identifier
from ...api.shapes import json_response
from ...domain import Assistant
from ...errors import BadRequest
from ..offered import assistant_named, form_or_none
from .shapes import Version

router = APIRouter(tags=["bridges"])

MayList = Annotated[Caller, may("assistants", "search")]

_TEXT, _JSON = "text/plain", "application/json"
_BINDING = "JSONRPC"
_PATH = "/.well-known/agent-card.json"


@router.get(_PATH)
async def get_agent_card(
    caller: MayList, request: Request, assistant_id: Annotated[Identifier | None, Query()] = None
) -> Response:
    """The A2A card of an assistant."""
    if assistant_id is None:
        raise BadRequest(f"name an assistant: {_PATH}?assistant_id=…")
    return json_response(await _card(caller, request, assistant_id))


@router.get("/a2a/{assistant_id}" + _PATH)
async def get_card_of_assistant(caller: MayList, request: Request, assistant_id: Identifier) -> Response:
    """The A2A card of an assistant, where clients look that are given its address."""
    return json_response(await _card(caller, request, assistant_id))


async def _card(caller: Caller, request: Request, named: str) -> dict[str, Any]:
    assistant = await assistant_named(caller, named)
    url = f"{request.url.scheme}://{request.url.netloc}{caller.mount_prefix}/a2a/{assistant.assistant_id}"
    description = assistant.description or f"Assistant based on the {assistant.graph_id} graph"
    modes = await _modes(caller, assistant)
    return {
        "name": assistant.name,
        "description": description,
        "version": str(assistant.version),
        "protocolVersion": f"{Version.OLD}.0",
        "url": url,
        "preferredTransport": _BINDING,
        "supportedInterfaces": [
            {"url": url, "protocolBinding": _BINDING, "protocolVersion": version}
            for version in (Version.NEW, Version.OLD)
        ],
        "capabilities": {
            "streaming": True,
            "pushNotifications": False,
            "stateTransitionHistory": False,
            "extendedAgentCard": False,
        },
        "defaultInputModes": modes,
        "defaultOutputModes": modes,
        "skills": [
            {
                "id": assistant.graph_id,
                "name": assistant.name,
                "description": description,
                "tags": [assistant.graph_id],
            }
        ],
        **_security(caller),
    }


async def _modes(caller: Caller, assistant: Assistant) -> list[str]:
    form = await form_or_none(caller, assistant)
    return [_TEXT, _JSON] if form is None or form.talks else [_JSON]


def _security(caller: Caller) -> dict[str, Any]:
    if not caller.resources.settings.auth.api_keys:
        # What a project's own authentication asks for only the project knows.
        return {}
    place = {"location": "header", "name": "x-api-key"}
    scheme = {"type": "apiKey", "in": "header", "name": "x-api-key", "apiKeySecurityScheme": place}
    return {
        "securitySchemes": {"apiKey": scheme},
        "security": [{"apiKey": []}],
        "securityRequirements": [{"schemes": {"apiKey": {"list": []}}}],
    }
