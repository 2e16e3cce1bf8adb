"""The chat completions of OpenAI: every assistant that talks is a model.

Without a thread a request brings its whole conversation. On a thread, which `X-Thread-Id` names, or
`user` if it is the id of one, the server has the conversation already: then only what follows the last
answer in the request is new. A client that leaves stops its run.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field, model_validator
from starlette.responses import Response

from ..api.bodies import body
from ..api.callers import Caller, may
from ..api.held import event_stream
from ..api.problems import headers_of
from ..api.schemas import Body, CommandBody, Identifier, Text
from ..domain import Assistant
from ..encoding import encode
from ..errors import Invalid, NotFound, ServerError
from ..runs.admission import RunRequest
from . import calls
from .calls import Call, Outcome
from .envelopes import enveloped
from .leaving import CLIENT_LEFT, unless_left
from .offered import find, form_or_none, offered
from .speech import Spoken, Turn, arguments_of, messages_of, question
from .waiting import thread_of

_TYPES = {401: "authentication_error", 403: "permission_error"}
_DONE = b"data: [DONE]\r\n\r\n"
_NO_TOOLS = "`tools` are not taken: what an assistant may call is a matter of its graph"


def _refusal(error: ServerError) -> Response:
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    problem = _problem(error.message, kind, error.code)
    return _json(problem, status=error.status, headers=headers_of(error))


router = APIRouter(prefix="/v1", tags=["bridges"], route_class=enveloped(_refusal))

MayList = Annotated[Caller, may("assistants", "search")]
MayRun = Annotated[Caller, may("threads", "create_run")]


class ChatFunction(Body):
    """What a tool call asks for."""

    name: Text
    arguments: Text


class ChatToolCall(Body):
    """A tool call that an assistant made earlier."""

    id: Text
    type: Literal["function"] = "function"
    function: ChatFunction

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            arguments = json.loads(self.function.arguments or "{}")
        except ValueError as error:
            raise ValueError("`arguments` must be the text of a JSON object") from error
        if not isinstance(arguments, dict):
            raise ValueError("`arguments` must be the text of a JSON object")
        return self


class ChatMessage(Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] = ""
    name: Text | None = None
    tool_calls: list[ChatToolCall] = Field(default_factory=list)
    tool_call_id: Text | None = None

    @model_validator(mode="after")
    def _answers_something(self) -> Self:
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message of a tool needs the `tool_call_id` that it answers")
        return self

    def given(self) -> dict[str, Any]:
        """As LangChain takes it."""
        shape = {"role": self.role, "content": self.content}
        if self.tool_calls:
            shape["tool_calls"] = [
                call.model_dump(include={"id", "type", "function"}) for call in self.tool_calls
            ]
        optional = {"name": self.name, "tool_call_id": self.tool_call_id}
        return shape | {name: value for name, value in optional.items() if value is not None}


class StreamOptions(Body):
    """What a stream shows besides."""

    include_usage: bool = False


class ChatRequest(Body):
    """A completion to make. Settings of models are a matter of the graph and have no effect."""

    holds_values: ClassVar[bool] = True

    model: Identifier
    """Name or id of an assistant."""
    messages: list[ChatMessage] = Field(default_factory=list)
    """The conversation; on a thread, what is new of it at least."""
    stream: bool = False
    """Whether the answer comes as it is made."""
    stream_options: StreamOptions = StreamOptions()
    """Whether the last chunk tells the usage."""
    user: Text | None = None
    """The id of a thread, to go on there. What is no UUID names nobody's thread and has no effect."""
    command: CommandBody | None = None
    """Ours: answers, in place of messages, what a thread waits for."""
    tools: list[Any] = Field(default_factory=list)
    """Refused: an assistant has the tools of its graph."""
    n: Annotated[int, Field(ge=1, le=1)] = 1
    """One answer is made."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.tools:
            raise ValueError(_NO_TOOLS)
        if not self.messages and self.command is None:
            raise ValueError("`messages` must not be empty")
        return self


@router.get("/models")
async def list_models(caller: MayList) -> Response:
    """The assistants that talk, as models of OpenAI."""
    names = (await offered(caller)).items()
    found = [_model(name, one) for name, one in names if await _talks(caller, one)]
    return _json({"object": "list", "data": found})


@router.get("/models/{model}")
async def get_model(caller: MayList, model: Identifier) -> Response:
    """One assistant that talks, as a model of OpenAI."""
    return _json(_model(model, await _assistant(caller, model)))


@router.post("/chat/completions")
async def complete_chat(
    caller: MayRun, request: Request, wanted: Annotated[ChatRequest, body(ChatRequest)]
) -> Response:
    """A run of an assistant that talks, as a completion of OpenAI."""
    assistant = await _assistant(caller, wanted.model)
    thread_id = _thread_named(request.headers.get("x-thread-id"), wanted.user)
    command = wanted.command.given() if wanted.command else None
    new = None if command else {"messages": await _new_messages(caller, wanted.messages, thread_id)}
    call = await calls.begin(
        caller,
        RunRequest(
            assistant_id=str(assistant.assistant_id),
            thread_id=thread_id,
            if_not_exists="reject" if command else "create",
            input=new,
            command=command,
            stream_mode=("messages-tuple",) if wanted.stream else ("values",),
            # What is new was found out of the present state; a run in between would change that.
            multitask_strategy="reject",
        ),
    )
    completion = _Completion(call, wanted)
    headers = {} if thread_id is None else {"x-thread-id": str(thread_id)}
    if wanted.stream:
        http = caller.resources.settings.http
        return event_stream(completion.chunks(), http=http, headers=headers, on_leave=call.on_leave())
    outcome = await unless_left(request, calls.outcome_of(call), call.on_leave())
    return Response(status_code=CLIENT_LEFT) if outcome is None else completion.whole(outcome, headers)


@dataclass(frozen=True, slots=True)
class _Completion:
    """A run as OpenAI shows it."""

    call: Call
    wanted: ChatRequest

    def whole(self, outcome: Outcome, headers: dict[str, str]) -> Response:
        """The answer in one piece."""
        if (problem := _run_problem(outcome)) is not None:
            # No status that makes clients send the request again: what the run did, it did.
            return _json(problem, status=422, headers=headers)
        turn = Turn.of(outcome.values)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self._asks(outcome) or turn.text,
            "refusal": None,
        }
        if calls_left := self._open_calls(turn, outcome):
            message["tool_calls"] = calls_left
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "tool_calls" if calls_left else "stop",
            "logprobs": None,
        }
        shape = self._shape("chat.completion") | {"choices": [choice], "usage": _usage(turn)}
        return _json(shape | {"interlock": self._more(turn, outcome)}, headers=headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer as it is made."""
        yield self._chunk({"role": "assistant", "content": ""})
        spoken = Spoken()
        async with self.call.events(whole=False) as following:
            async for events in following:
                for event in events:
                    for text in spoken.texts(event):
                        yield self._chunk({"content": text})
        outcome = await calls.outcome_of(self.call)
        if (problem := _run_problem(outcome)) is not None:
            yield _event(problem)
        else:
            for chunk in self._ending(outcome, spoken):
                yield chunk
        yield _DONE

    def _ending(self, outcome: Outcome, spoken: Spoken) -> Iterator[bytes]:
        turn = Turn.of(outcome.values)
        if asks := self._asks(outcome):
            yield self._chunk({"content": f"\n\n{asks}" if spoken.said else asks})
        calls_left = self._open_calls(turn, outcome)
        if calls_left:
            yield self._chunk({"tool_calls": [{"index": i, **one} for i, one in enumerate(calls_left)]})
        reason = "tool_calls" if calls_left else "stop"
        yield self._chunk({}, finish_reason=reason, interlock=self._more(turn, outcome))
        if self.wanted.stream_options.include_usage:
            yield _event(self._shape("chat.completion.chunk") | {"choices": [], "usage": _usage(turn)})

    def _chunk(self, delta: dict[str, Any], *, finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return _event(self._shape("chat.completion.chunk") | {"choices": [choice]} | more)

    def _shape(self, kind: str) -> dict[str, Any]:
        run = self.call.run
        return {
            "id": f"chatcmpl-{run.run_id.hex}",
            "object": kind,
            "created": int(run.created_at.timestamp()),
            "model": self.wanted.model,
        }

    def _asks(self, outcome: Outcome) -> str | None:
        if outcome.status != "waiting":
            return None
        return question(outcome.interrupts, self.call.run.thread_id)

    def _open_calls(self, turn: Turn, outcome: Outcome) -> list[dict[str, Any]]:
        """Calls that the graph leaves to its client; while it waits it will make them itself."""
        left = turn.open_calls if outcome.status == "finished" else []
        return [
            {
                "id": one.get("id"),
                "type": "function",
                "function": {"name": one.get("name"), "arguments": arguments_of(one)},
            }
            for one in left
        ]

    def _more(self, turn: Turn, outcome: Outcome) -> dict[str, Any]:
        """What the format has no place for."""
        stays = outcome.status == "waiting" or not self.call.passing
        return {
            "status": "interrupted" if outcome.status == "waiting" else "success",
            "thread_id": str(self.call.run.thread_id) if stays else None,
            "run_id": str(self.call.run.run_id) if stays else None,
            "interrupts": outcome.interrupts,
            "tool_calls": turn.made_calls,
        }


async def _assistant(caller: Caller, model: str) -> Assistant:
    found = find(await offered(caller), model)
    if found is None or not await _talks(caller, found):
        raise NotFound(f"The model {model!r} does not exist, or its graph has no `messages`")
    return found


async def _talks(caller: Caller, assistant: Assistant) -> bool:
    form = await form_or_none(caller, assistant)
    return form is not None and form.talks


def _model(name: str, assistant: Assistant) -> dict[str, Any]:
    created = int(assistant.created_at.timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": "interlock"}


def _thread_named(header: str | None, user: str | None) -> UUID | None:
    try:
        return UUID(header or user)
    except (TypeError, ValueError):
        if header:
            raise Invalid("`X-Thread-Id` must be a UUID") from None
        return None


async def _new_messages(
    caller: Caller, messages: list[ChatMessage], thread_id: UUID | None
) -> list[dict[str, Any]]:
    """What of a conversation its thread does not have."""
    if thread_id is not None and await _has_conversation(caller, thread_id):
        answers = [place for place, one in enumerate(messages) if one.role == "assistant"]
        rest = messages[answers[-1] + 1 :] if answers else messages
        messages = [one for one in rest if one.role not in ("system", "developer")]
        if not messages:
            raise Invalid("nothing in `messages` is new to the thread; end with what is to be answered")
    return [one.given() for one in messages]


async def _has_conversation(caller: Caller, thread_id: UUID) -> bool:
    thread = await thread_of(caller, thread_id)
    return thread is not None and bool(messages_of(thread.values))


def _usage(turn: Turn) -> dict[str, int]:
    return {
        "prompt_tokens": turn.input_tokens,
        "completion_tokens": turn.output_tokens,
        "total_tokens": turn.input_tokens + turn.output_tokens,
    }


def _run_problem(outcome: Outcome) -> dict[str, Any] | None:
    error = outcome.error
    return None if error is None else _problem(outcome.failure, "run_error", error["error"])


def _problem(message: str, kind: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _event(shape: dict[str, Any]) -> bytes:
    return b"data: %b\r\n\r\n" % encode(shape)


def _json(shape: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(shape), status_code=status, headers=headers, media_type="application/json")
