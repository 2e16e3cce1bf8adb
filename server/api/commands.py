"""Commands of the thread protocol, over HTTP and in a WebSocket: checked, carried out, answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from ...checkpoints.errors import DatabaseError
from ..encoding import encode
from ..errors import BadRequest, Forbidden, Invalid, NoSuchInterrupt, ServerError
from ..runs.commands import CommandRefused, Commands, ErrorCode, Result
from ..runs.scope import Action
from . import command_schemas as schemas
from .callers import Caller
from .headers import for_configurable
from .problems import first_fault
from .schemas import Body

log = structlog.get_logger(__name__)

Model = TypeVar("Model", bound=Body)

SUBSCRIPTIONS = frozenset({"subscription.subscribe", "subscription.unsubscribe", "subscription.reconnect"})
"""What belongs to a connection that stays."""

_CODES: Mapping[type[ServerError], ErrorCode] = {
    Forbidden: "permission_denied",
    NoSuchInterrupt: "no_such_interrupt",
    BadRequest: "invalid_argument",
}


def _start(commands: Commands, given: schemas.Start) -> Awaitable[Result]:
    return commands.start(given.request())


def _respond(commands: Commands, given: schemas.Respond) -> Awaitable[Result]:
    request = {"config": given.config.given(), "metadata": given.metadata}
    return commands.respond(given.answers(), command=given.beside(), request=request)


def _inject(commands: Commands, given: schemas.Inject) -> Awaitable[Result]:
    return commands.inject(given.message.given(), namespace=given.namespace)


def _tree(commands: Commands, given: schemas.Tree) -> Awaitable[Result]:
    return commands.tree(given.run_id)


def _state(commands: Commands, given: schemas.StateGet) -> Awaitable[Result]:
    return commands.get_state(given.namespace, given.keys)


def _checkpoints(commands: Commands, given: schemas.ListCheckpoints) -> Awaitable[Result]:
    return commands.list_checkpoints(given.namespace, limit=given.limit, before=given.before)


def _fork(commands: Commands, given: schemas.Fork) -> Awaitable[Result]:
    return commands.fork(given.checkpoint_id, {"input": given.input, "config": given.config.given()})


_METHODS: Mapping[str, tuple[type[Body], tuple[Action, ...], Callable[..., Awaitable[Result]]]] = {
    "run.start": (schemas.Start, ("create_run",), _start),
    "input.respond": (schemas.Respond, ("create_run",), _respond),
    "input.inject": (schemas.Inject, ("create_run",), _inject),
    "agent.getTree": (schemas.Tree, (), _tree),
    "state.get": (schemas.StateGet, (), _state),
    "state.listCheckpoints": (schemas.ListCheckpoints, (), _checkpoints),
    "state.fork": (schemas.Fork, ("create_run", "update"), _fork),
}
"""Parameters of each method, what it asks for beyond reading the thread, and what it does."""


async def execute(caller: Caller, thread_id: UUID, method: str, params: Mapping[str, Any]) -> Result:
    """Carry out a command.

    Raises:
        CommandRefused: it is not carried out; nothing was stored.
    """
    if method in SUBSCRIPTIONS:
        raise CommandRefused(
            "not_supported", f"`{method}` needs a WebSocket; over HTTP, POST to `stream/events` instead"
        )
    if method not in _METHODS:
        raise CommandRefused(
            "unknown_command", f"unknown command {method!r}; known are {', '.join(_METHODS)}"
        )
    model, actions, act = _METHODS[method]
    given = checked(model, params)
    with refusing():
        for action in actions:
            caller.must("threads", action)
        for action in ("read", *(one for one in actions if one != "create_run")):
            await caller.require_thread(thread_id, action)
        return await act(commands_of(caller, thread_id), given)


@contextmanager
def refusing() -> Generator[None]:
    """Tell why a command is not carried out in the words of the protocol.

    Raises:
        CommandRefused: in place of a `ServerError`.
    """
    try:
        yield
    except ServerError as error:
        code = _CODES.get(type(error))
        if code is None:
            raise CommandRefused("unknown_error", f"{error.status}: {error.message}") from error
        raise CommandRefused(code, error.message) from error


def commands_of(caller: Caller, thread_id: UUID) -> Commands:
    """The commands of a caller on a thread; runs find the headers of the client in `configurable`."""
    headers = for_configurable(caller.headers, caller.resources.settings.http.configurable_headers)
    return Commands(caller.resources, caller.principal, thread_id, headers=headers)


def checked(model: type[Model], params: Mapping[str, Any]) -> Model:
    """The parameters of a command.

    Raises:
        CommandRefused: they are malformed.
    """
    try:
        return model.model_validate(params)
    except ValidationError as error:
        raise CommandRefused("invalid_argument", first_fault(error).message) from error
    except Invalid as error:
        raise CommandRefused("invalid_argument", error.message) from error


async def answered(command_id: int, result: Awaitable[Result], *, seq: Callable[[], int]) -> bytes:
    """The answer to a command as JSON text; `seq` is the number up to which this connection has events."""
    try:
        return success(command_id, await result, seq=seq())
    except CommandRefused as refusal:
        return failure(command_id, refusal.code, refusal.message)
    except DatabaseError as error:
        log.warning("command_failed", error=str(error))
        return failure(command_id, "unknown_error", "503: the server cannot reach its database; try again")


def success(command_id: int, result: Result, *, seq: int) -> bytes:
    """That a command was carried out."""
    meta = {"applied_through_seq": seq}
    return encode({"type": "success", "id": command_id, "result": result, "meta": meta})


def failure(command_id: int | None, code: ErrorCode, message: str) -> bytes:
    """That it was not."""
    return encode({"type": "error", "id": command_id, "error": code, "message": message})
