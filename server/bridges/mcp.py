"""MCP: every assistant is a tool. Streamable HTTP without sessions, each answer one JSON text.

A call is a run on a thread of its own. Nobody could ask for its answer later, so a client that leaves
stops it. A run that has to wait for a person answers with the id of its thread, which is kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    Implementation,
    InitializeRequestParams,
    InitializeResult,
    JSONRPCRequest,
    ListToolsResult,
    PaginatedRequestParams,
    Result,
    ServerCapabilities,
    TextContent,
    Tool,
    ToolAnnotations,
    ToolsCapability,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from starlette.responses import Response

from ...tools.schemas import Schema
from ..api.bodies import json_body
from ..api.callers import Caller, may
from ..api.held import OnLeave, awaited_json, event_stream
from ..api.shapes import nothing
from ..domain import Assistant
from ..encoding import encode
from ..errors import NotFound, ServerError
from ..runs.admission import RunRequest
from . import calls, jsonrpc
from .calls import Outcome
from .envelopes import enveloped
from .jsonrpc import Fault
from .offered import MESSAGES, Form, form_of, form_or_none, offered
from .speech import last_answer, question

router = APIRouter(tags=["bridges"], route_class=enveloped(jsonrpc.refusal))

MayList = Annotated[Caller, may("assistants", "search")]

_VERSION_HEADER = "mcp-protocol-version"
_JSON, _EVENTS = "application/json", "text/event-stream"
_TOOLS_AT_ONCE = 100
_OF_LATER_VERSIONS = {"result_type", "ttl_ms", "cache_scope"}


@router.post("/mcp")
async def speak_mcp(caller: MayList, request: Request, raw: Annotated[Any, json_body()]) -> Response:
    """One message of MCP. A call of a tool asks for the right `threads.create_run` too."""
    accepted = _accepted(request.headers.get("accept", "*/*"))
    if not accepted:
        fault = Fault(INVALID_REQUEST, f"`Accept` must include {_JSON} or {_EVENTS}")
        return jsonrpc.fault_response(None, fault, status=400)
    identity = None
    try:
        message = jsonrpc.read_message(raw)
        if not isinstance(message, JSONRPCRequest):
            return nothing(202)
        identity = message.id
        _require_version(request.headers.get(_VERSION_HEADER))
    except Fault as fault:
        return jsonrpc.fault_response(identity, fault, status=400)
    try:
        return await _Exchange(caller, message, as_events=_JSON not in accepted).answer()
    except Fault as fault:
        return jsonrpc.fault_response(identity, fault)
    except ServerError as error:
        return jsonrpc.fault_response(identity, Fault.of(error))


@router.delete("/mcp")
async def end_mcp_session(caller: MayList) -> Response:
    """There are no sessions of MCP to end."""
    raise NotFound(f"there are no sessions, for {caller.principal.subject!r} as for anybody")


class _Exchange:
    """One request and its answer."""

    def __init__(self, caller: Caller, message: JSONRPCRequest, *, as_events: bool) -> None:
        self._caller = caller
        self._message = message
        self._as_events = as_events

    async def answer(self) -> Response:
        params = self._message.params
        match self._message.method:
            case "initialize":
                return self._told(_initialized(jsonrpc.read_params(InitializeRequestParams, params)))
            case "ping":
                return self._told(EmptyResult())
            case "tools/list":
                page = jsonrpc.read_params(PaginatedRequestParams, params)
                return self._told(await _tools(self._caller, page.cursor))
            case "tools/call":
                return await self._called(jsonrpc.read_params(CallToolRequestParams, params))
            case method:
                raise Fault(METHOD_NOT_FOUND, f"method {method!r} is not known here")

    def _told(self, result: Result) -> Response:
        async def known() -> bytes:
            return self._text(result)

        return self._held(known, None)

    async def _called(self, params: CallToolRequestParams) -> Response:
        assistant = (await offered(self._caller)).get(params.name)
        if assistant is None:
            raise Fault(INVALID_PARAMS, f"Unknown tool: {params.name!r}")
        self._caller.must("threads", "create_run")
        form = await form_of(self._caller, assistant)
        arguments = params.arguments or {}
        if problem := Schema(form.schema).problem(arguments):
            return self._told(_failed(f"the arguments do not fit: {problem}"))
        request = RunRequest(assistant_id=str(assistant.assistant_id), input=_input(form, arguments))
        call = await calls.begin(self._caller, request)

        def told(outcome: Outcome) -> bytes:
            return self._text(_result(call.run.thread_id, outcome))

        return self._held(jsonrpc.coming(self._message.id, call, told=told), call.on_leave())

    def _text(self, result: Result) -> bytes:
        shape = result.model_dump(
            by_alias=True, exclude_none=True, exclude=_OF_LATER_VERSIONS, warnings=False
        )
        return jsonrpc.result_text(self._message.id, shape)

    def _held(self, text: Callable[[], Awaitable[bytes]], on_leave: OnLeave | None) -> Response:
        http = self._caller.resources.settings.http
        if not self._as_events:
            return awaited_json(text, http=http, headers={}, on_leave=on_leave)

        async def events() -> AsyncIterator[bytes]:
            yield jsonrpc.frame(await text())

        return event_stream(events(), http=http, headers={}, on_leave=on_leave)


def _initialized(params: InitializeRequestParams) -> InitializeResult:
    wanted = params.protocol_version
    return InitializeResult(
        protocol_version=wanted if wanted in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION,
        capabilities=ServerCapabilities(tools=ToolsCapability(list_changed=False)),
        server_info=Implementation(name="Interlock", version=version("interlock")),
    )


async def _tools(caller: Caller, cursor: str | None) -> ListToolsResult:
    names = list((await offered(caller)).items())
    start = 0 if cursor is None else _place(cursor)
    end = start + _TOOLS_AT_ONCE
    return ListToolsResult(
        tools=[await _tool(caller, name, assistant) for name, assistant in names[start:end]],
        next_cursor=str(end) if end < len(names) else None,
    )


def _place(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise Fault(INVALID_PARAMS, f"cursor {cursor!r} is none of ours")
    return int(cursor)


async def _tool(caller: Caller, name: str, assistant: Assistant) -> Tool:
    form = await form_or_none(caller, assistant)
    return Tool(
        name=name,
        description=assistant.description or f"Tool based on the {assistant.name} assistant",
        input_schema=form.schema if form else {"type": "object"},
        annotations=ToolAnnotations(title=assistant.name, read_only_hint=False, open_world_hint=True),
    )


def _input(form: Form, arguments: dict[str, Any]) -> dict[str, Any]:
    if not form.talks:
        return arguments
    return {**arguments, MESSAGES: [{"role": "user", "content": arguments[MESSAGES]}]}


def _result(thread_id: UUID, outcome: Outcome) -> CallToolResult:
    match outcome.status:
        case "finished":
            text = last_answer(outcome.values) or encode(outcome.values).decode()
            return _said(text, outcome.values)
        case "waiting":
            waiting = {
                "status": "interrupted",
                "thread_id": str(thread_id),
                "interrupts": outcome.interrupts,
                "values": outcome.values,
            }
            text = f"{question(outcome.interrupts, thread_id)} Do not call the tool again."
            return _said(text, waiting)
        case "failed" | "cancelled":
            return _failed(outcome.failure)


def _said(text: str, structured: Any) -> CallToolResult:
    # Up to the present version what is structured has to be an object.
    return CallToolResult(
        content=[TextContent(text=text)],
        structured_content=structured if isinstance(structured, dict) else None,
    )


def _failed(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


def _accepted(header: str) -> set[str]:
    """Which of the two forms of an answer a client takes."""
    kinds = {part.split(";")[0].strip().lower() for part in header.split(",")}
    if kinds & {"*/*", "application/*"}:
        kinds.add(_JSON)
    return kinds & {_JSON, _EVENTS}


def _require_version(named: str | None) -> None:
    if named is not None and named not in HANDSHAKE_PROTOCOL_VERSIONS:
        supported = list(HANDSHAKE_PROTOCOL_VERSIONS)
        raise Fault(
            UNSUPPORTED_PROTOCOL_VERSION,
            f"version {named!r} of the protocol is not spoken here",
            {"requested": named, "supported": supported},
        )
