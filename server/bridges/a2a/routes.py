"""The one address of an agent, for the methods of both versions of A2A.

A client that leaves stops nothing: it asks for the task later, or subscribes to it again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4

from fastapi import APIRouter, Request
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, JSONRPCRequest
from starlette.responses import Response

from ...api.bodies import json_body
from ...api.callers import Caller, may
from ...api.held import awaited_json, event_stream
from ...api.schemas import Identifier
from ...api.shapes import nothing
from ...domain import Assistant
from ...encoding import JsonObject
from ...errors import Invalid, NotFound, ServerError
from ...runs import cancel
from ...runs.admission import RunRequest
from .. import calls, jsonrpc
from ..calls import Call, Outcome
from ..envelopes import enveloped
from ..jsonrpc import Fault
from ..offered import MESSAGES, assistant_named, form_of
from ..speech import messages_of
from ..waiting import Waiting, thread_of
from . import cards, tasks
from .params import SendParams, SentMessage, TaskParams
from .progress import progress
from .shapes import Version, message, shown, text_part
from .tasks import Task

router = APIRouter(tags=["bridges"])
_calls = APIRouter(
    tags=["bridges"], route_class=enveloped(jsonrpc.refusal, misaddressed=jsonrpc.misaddressed)
)

MayList = Annotated[Caller, may("assistants", "search")]

TASK_NOT_CANCELABLE = -32002
PUSH_NOT_SUPPORTED = -32003
UNSUPPORTED_OPERATION = -32004
NO_EXTENDED_CARD = -32007
VERSION_NOT_SUPPORTED = -32009

_REASONS = {
    tasks.TASK_NOT_FOUND: "TASK_NOT_FOUND",
    TASK_NOT_CANCELABLE: "TASK_NOT_CANCELABLE",
    PUSH_NOT_SUPPORTED: "PUSH_NOTIFICATION_NOT_SUPPORTED",
    UNSUPPORTED_OPERATION: "UNSUPPORTED_OPERATION",
    NO_EXTENDED_CARD: "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
    VERSION_NOT_SUPPORTED: "VERSION_NOT_SUPPORTED",
}
"""What version 1.0 calls the errors of the protocol."""
_VERSION_HEADER = "a2a-version"
_SPOKEN = re.compile(r"[01]\.\d{1,3}(\.\d{1,3})?")
_OLDER_NAMES = {
    "message/send": "SendMessage",
    "message/stream": "SendStreamingMessage",
    "tasks/get": "GetTask",
    "tasks/cancel": "CancelTask",
    "tasks/resubscribe": "SubscribeToTask",
    "agent/getAuthenticatedExtendedCard": "GetExtendedAgentCard",
}
"""Methods of version 0.3 by their names in 1.0."""


@_calls.post("/a2a/{assistant_id}")
async def speak_a2a(
    caller: MayList, request: Request, assistant_id: Identifier, raw: Annotated[Any, json_body()]
) -> Response:
    """One message of A2A. To send something asks for the right `threads.create_run` too, to cancel
    for `threads.update`, and the rest for `threads.read`."""
    try:
        sent = jsonrpc.read_message(raw)
    except Fault as fault:
        return jsonrpc.fault_response(None, fault)
    if not isinstance(sent, JSONRPCRequest):
        return nothing(202)
    exchange = _Exchange(caller, sent)
    try:
        _require_version(request.headers.get(_VERSION_HEADER))
        return await exchange.answer(await assistant_named(caller, assistant_id))
    except (Fault, ServerError) as error:
        return exchange.refusal(error)


router.include_router(cards.router)
router.include_router(_calls)


class _Begun(NamedTuple):
    """What a message has begun, or gone on with."""

    call: Call
    task: Task


class _Exchange:
    """One request and its answer."""

    def __init__(self, caller: Caller, sent: JSONRPCRequest) -> None:
        self._caller = caller
        self._sent = sent
        older = sent.method in _OLDER_NAMES or "/" in sent.method
        self._method = _OLDER_NAMES.get(sent.method, sent.method)
        self._version = Version.OLD if older else Version.NEW

    async def answer(self, assistant: Assistant) -> Response:
        match self._method:
            case "SendMessage" | "SendStreamingMessage":
                params = jsonrpc.read_params(SendParams, self._sent.params)
                return await self._sent_message(assistant, params)
            case "GetTask" | "CancelTask" | "SubscribeToTask":
                self._caller.must("threads", "read")
                params = jsonrpc.read_params(TaskParams, self._sent.params)
                return await self._about_task(assistant, params)
            case "GetExtendedAgentCard":
                raise Fault(NO_EXTENDED_CARD, "there is one card, and it has everything")
            case method if "ushNotificationConfig" in method:
                raise Fault(PUSH_NOT_SUPPORTED, "nothing is sent unasked: get the task, or subscribe to it")
            case "ListTasks":
                raise Fault(UNSUPPORTED_OPERATION, "tasks are not listed here: get them by their ids")
            case _:
                raise Fault(METHOD_NOT_FOUND, f"method {self._sent.method!r} is not known here")

    def refusal(self, error: Fault | ServerError) -> Response:
        """The answer to what cannot be done; no status tells it, as the protocol has it."""
        return jsonrpc.fault_response(self._sent.id, self._fault(error))

    async def _sent_message(self, assistant: Assistant, params: SendParams) -> Response:
        if params.configuration.pushes:
            raise Fault(PUSH_NOT_SUPPORTED, "nothing is sent unasked: leave the push notification out")
        begun = await _begun(self._caller, assistant, params)
        if self._method == "SendStreamingMessage":
            return self._streamed(begun, history=[_echo(params.message, begun.task)])
        length = self._length(params.configuration.history_length)
        if not params.configuration.waits:
            return self._told(begun.task.begun([_echo(params.message, begun.task)][: length or 1]))

        def told(outcome: Outcome) -> bytes:
            return self._text(tasks.told_of(begun.task, outcome, length=length), wrapped=True)

        answer = jsonrpc.coming(self._sent.id, begun.call, told=told, fault=self._fault)
        return awaited_json(answer, http=self._http, headers={}, on_leave=None)

    async def _about_task(self, assistant: Assistant, params: TaskParams) -> Response:
        task = await tasks.task_named(self._caller, params.id, assistant_id=assistant.assistant_id)
        length = self._length(params.history_length)
        match self._method:
            case "CancelTask":
                await _cancel(self._caller, task)
                task = await tasks.task_named(self._caller, params.id, assistant_id=assistant.assistant_id)
                return self._told(await tasks.told(self._caller, task, length=length), wrapped=False)
            case "SubscribeToTask":
                return await self._subscribed(task)
            case _:
                return self._told(await tasks.told(self._caller, task, length=length), wrapped=False)

    async def _subscribed(self, task: Task) -> Response:
        if task.ended:
            stands = await tasks.told(self._caller, task, length=None)
            if (state := stands["status"]["state"]) != "input-required":
                raise Fault(UNSUPPORTED_OPERATION, f"the task is {state}: nothing more comes of it; get it")
        return self._streamed(_Begun(Call(self._caller, task.last, passing=False), task), history=())

    def _told(self, answer: JsonObject, *, wrapped: bool = True) -> Response:
        return Response(self._text(answer, wrapped=wrapped), media_type="application/json")

    def _streamed(self, begun: _Begun, *, history: Any) -> Response:
        async def frames() -> AsyncIterator[bytes]:
            try:
                async for event in progress(begun.call, begun.task, history=history):
                    yield jsonrpc.frame(self._text(event, wrapped=True))
            except ServerError as error:
                yield jsonrpc.frame(jsonrpc.fault_text(self._sent.id, self._fault(error)))

        return event_stream(frames(), http=self._http, headers={}, on_leave=None)

    @property
    def _http(self) -> Any:
        return self._caller.resources.settings.http

    def _length(self, length: int | None) -> int | None:
        """How much history is wanted; None: all. To version 0.3 nothing and all are the same."""
        return length if length or self._version is Version.NEW else None

    def _text(self, answer: JsonObject, *, wrapped: bool) -> bytes:
        return jsonrpc.result_text(self._sent.id, shown(answer, self._version, wrapped=wrapped))

    def _fault(self, error: Fault | ServerError) -> Fault:
        fault = Fault.of(error) if isinstance(error, ServerError) else error
        if self._version is Version.OLD:
            return fault
        reason = _REASONS.get(fault.code) or str((fault.data or {}).get("code", "invalid")).upper()
        told = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "a2a-protocol.org",
        }
        return Fault(fault.code, fault.message, [told])


async def _begun(caller: Caller, assistant: Assistant, params: SendParams) -> _Begun:
    """Start the run that a message asks for: a new task, or what goes on with one that waits."""
    caller.must("threads", "create_run")
    sent = params.message
    named = None
    if sent.task_id:
        named = await tasks.task_named(caller, sent.task_id, assistant_id=assistant.assistant_id)
        if sent.context_id and sent.context_id != named.context_id:
            raise Fault(INVALID_PARAMS, f"task {sent.task_id!r} belongs to another context")
    thread_id = named.first.thread_id if named else _context(sent.context_id)
    thread = await thread_of(caller, thread_id) if named or sent.context_id else None
    waiting = Waiting.of(thread)
    task = None
    if thread is not None and (named or waiting):
        task = await tasks.newest_task(caller, thread_id)
    if named and (waiting is None or task is None or task.task_id != named.task_id):
        raise Fault(UNSUPPORTED_OPERATION, f"task {named.task_id!r} waits for nothing: send to its context")
    if task is not None and task.first.assistant_id != assistant.assistant_id:
        raise Fault(INVALID_PARAMS, "another agent waits for an answer in this context: answer that one")
    wanted = RunRequest(
        assistant_id=str(assistant.assistant_id),
        thread_id=thread_id,
        if_not_exists="create",
        metadata=params.metadata,
        stream_mode=("messages-tuple", "values"),
        # What waits was looked for before: a run in between would ask something else.
        multitask_strategy="reject",
        **await _input(
            caller, assistant, sent, waiting, known=messages_of(thread.values if thread else None)
        ),
    )
    call = await calls.begin(caller, wanted)
    return _Begun(call, Task(first=task.first if task else call.run, last=call.run))


async def _input(
    caller: Caller,
    assistant: Assistant,
    sent: SentMessage,
    waiting: Waiting | None,
    *,
    known: list[JsonObject],
) -> dict[str, Any]:
    """What a run is given of a message: an answer if one is waited for, else an input."""
    if waiting is not None and waiting.interrupts:
        if sent.data and (sent.content or len(sent.data) > 1):
            raise Invalid("an answer is either words or one part of data; the agent asked one thing")
        answer = sent.data[0] if sent.data else sent.content
        return {"command": {"resume": waiting.answered(answer)}, "answers": waiting.ids}
    if waiting is not None and not sent.data and sent.content == tasks.GO_ON:
        return {}
    given: JsonObject = {}
    for data in sent.data:
        if not isinstance(data, dict):
            raise Invalid("data that begins a task must be an object: it is the input of the graph")
        given |= data
    if sent.content:
        if not (await form_of(caller, assistant)).talks:
            raise Invalid("the graph of this agent has no `messages`: send its input as a part of data")
        own = {"id": sent.message_id} if all(one.get("id") != sent.message_id for one in known) else {}
        role = "user" if sent.role in ("user", "ROLE_USER") else "assistant"
        given[MESSAGES] = [{"role": role, "content": sent.content, **own}]
    # At a breakpoint the graph goes on with what is said besides.
    return {"input": given} if waiting is None else {"command": {"update": given}}


async def _cancel(caller: Caller, task: Task) -> None:
    caller.must("threads", "update")
    run = task.last
    asked = {"thread_id": run.thread_id, "metadata": {}, "action": "interrupt"}
    held = (await caller.ask("threads", "update", **asked)).held
    try:
        await cancel.cancel(
            caller.resources,
            caller.principal,
            thread_id=run.thread_id,
            run_id=run.run_id,
            reason="the task was canceled",
            held=held,
        )
    except NotFound:
        raise Fault(
            TASK_NOT_CANCELABLE, "no run of the task is under way, so nothing can be stopped"
        ) from None


def _context(named: str) -> UUID:
    try:
        return UUID(named) if named else uuid4()
    except ValueError:
        raise Fault(INVALID_PARAMS, "`contextId` must be a UUID: it is the id of a thread") from None


def _echo(sent: SentMessage, task: Task) -> JsonObject:
    """The message that began a task, as its history has it."""
    content = sent.content
    text = content if isinstance(content, str) else ""
    return message("user", [text_part(text)], message_id=sent.message_id, place=task.place)


def _require_version(named: str | None) -> None:
    if named and not _SPOKEN.fullmatch(named):
        raise Fault(VERSION_NOT_SUPPORTED, f"version {named[:50]!r} is not spoken here; 0.3 and 1.0 are")
