"""Who calls a route, and what the call may use: the one dependency that every route has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Path
from starlette.requests import HTTPConnection, Request
from starlette.types import Message, Receive, Scope

from ...checkpoints.database import Database
from ...checkpoints.sealed import seal_for
from ...tools.policy.permissions import Principal
from ..auth.project import ProjectAuthenticator
from ..errors import Invalid, NotFound
from ..records import threads
from ..records.threads import ThreadKey
from ..resources import Resources
from ..runs import scope
from ..runs.acting import Actor
from ..runs.encryption import HEADER, context_for
from ..runs.scope import Action, Answer, Resource, Rule, allow
from .bodies import parse, read_limited

IDENTIFIED = "interlock.principal"
"""Key of an ASGI scope under which the principal stands that was found before; no client can set it."""

_KEYED = "interlock.keyed"
"""Key under which stands that it is known what the principal's values are encrypted with."""

ACTOR = "interlock.actor"
"""Key under which it stands for whom a call from inside the process is made."""

OPEN_PATHS = frozenset({"/", "/ok", "/info", "/metrics", "/openapi.json", "/docs"})
"""Paths of ours that nobody is asked for credentials on; and the console, which holds no data."""

OFFERED_KEY = "x-api-key."
"""How the subprotocol of a WebSocket begins that carries a key."""

ThreadId = Annotated[UUID, Path(description="Id of a thread.")]
RunId = Annotated[UUID, Path(description="Id of a run.")]
AssistantId = Annotated[UUID, Path(description="Id of an assistant.")]


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of a request and the resources of the loop that serves it."""

    principal: Principal
    resources: Resources
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the request."""
    waiting: Actor | None = None
    """The run that makes this call and cannot go on before it is answered; None for a call from outside."""

    @property
    def tenant_id(self) -> str:
        """The tenant whose rows the call may touch."""
        return self.principal.tenant

    @property
    def database(self) -> Database:
        """The pool of this loop."""
        return self.resources.database

    @property
    def mount_prefix(self) -> str:
        """What stands before every path."""
        return self.resources.settings.http.mount_prefix

    def must(self, resource: Resource, action: Action) -> None:
        """Let the caller go on to what its route does only when asked.

        Raises:
            Forbidden: nothing grants it.
        """
        allow(self.principal, Rule(resource, action))

    async def ask(self, resource: str, action: str, /, **value: Any) -> Answer:
        """Ask the project's own handlers about the operation; `scope` tells what becomes of the answer.

        Raises:
            ServerError: they refuse it.
        """
        return await scope.ask(self.resources, self.principal, resource, action, value)

    async def require_thread(self, thread_id: UUID, action: Action = "read") -> None:
        """Ask about a thread that need not exist yet; one that the caller may not touch is missing.

        Raises:
            NotFound: it exists, and is not for the caller.
            ServerError: the handlers refuse it.
        """
        answer = await self.ask("threads", action, thread_id=thread_id)
        if answer.held is None:
            return
        key = ThreadKey(tenant_id=self.tenant_id, thread_id=thread_id)
        async with self.database.connection() as connection:
            mine = await threads.get(connection, **key, held=answer.held)
            if mine is None and await threads.get(connection, **key) is not None:
                raise NotFound(f"Thread with ID {thread_id} not found")


def is_open(path: str) -> bool:
    """Whether nobody is asked for credentials on a path of ours."""
    return path in OPEN_PATHS or f"{path}/".startswith("/console/")


async def ask_stranger(request: Request) -> None:
    """Find who sent what no route takes: only who is let in is told what there is and what not.

    Raises:
        ServerError: nobody that is let in.
    """
    # Below a mounted folder the root is another one.
    root = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    if not is_open(request.url.path.removeprefix(root)):
        await identify(request.app, request)


async def identify(app: FastAPI, connection: HTTPConnection) -> Principal:
    """Find who calls, once for each request.

    Raises:
        ServerError: nobody that is let in.
    """
    if IDENTIFIED not in connection.scope:
        authenticator = app.state.authenticator
        asking = _with_offered_key(connection)
        if isinstance(authenticator, ProjectAuthenticator):
            principal = await authenticator.authenticate(asking, partial(_body, app, connection))
        else:
            principal = authenticator.authenticate(asking.headers)
        connection.scope[IDENTIFIED] = principal
    principal = await _with_keys(app, connection)
    seal_for(principal.encryption)
    return principal


async def _with_keys(app: FastAPI, connection: HTTPConnection) -> Principal:
    """The principal with what the project's encryption handlers find its keys by; asked once for a request.

    A call from inside the process has that of whom it acts for, unless it says otherwise.
    """
    principal: Principal = connection.scope[IDENTIFIED]
    hook = app.state.resources.catalog.hooks.encryption
    header = connection.headers.get(HEADER)
    inherits = bool(principal.encryption) and ACTOR in connection.scope and not header
    if hook is None or inherits or _KEYED in connection.scope:
        return principal
    principal = replace(principal, encryption=await context_for(hook, principal, header))
    connection.scope[IDENTIFIED], connection.scope[_KEYED] = principal, True
    return principal


def _with_offered_key(connection: HTTPConnection) -> HTTPConnection:
    """A connection with the key of a browser where other clients have it, in both of its headers.

    Browsers can set no headers on a WebSocket. So the key may also be the query parameter `api_key`, or a
    subprotocol `x-api-key.KEY` beside `interlock`, which keeps it out of the logs of proxies:
    `new WebSocket(url, ["interlock", "x-api-key." + key])`.
    """
    headers = connection.headers
    if connection.scope["type"] != "websocket" or headers.get("x-api-key") or headers.get("authorization"):
        return connection
    offered: list[str] = connection.scope.get("subprotocols", [])
    keys = [name.removeprefix(OFFERED_KEY) for name in offered if name.startswith(OFFERED_KEY)]
    key = (keys[0] if keys else connection.query_params.get("api_key", "")).encode()
    if not key:
        return connection
    given = [(b"x-api-key", key), (b"authorization", b"Bearer " + key)]
    others = [pair for pair in connection.scope["headers"] if pair[0] not in dict(given)]
    return HTTPConnection({**connection.scope, "headers": [*others, *given]})


async def _body(app: FastAPI, connection: HTTPConnection) -> Any:
    """The body of a request before anybody knows whose it is; it can be read again."""
    if not isinstance(connection, Request):
        return None
    text = await read_limited(connection, app.state.settings.http.max_body_bytes)
    connection._body = text
    try:
        return parse(text) if text else None
    except Invalid:
        return None


async def identify_early(app: FastAPI, scope: Scope, receive: Receive) -> tuple[Principal, Receive]:
    """Find who calls before a route is chosen; the request goes on with the `receive` that is returned.

    Raises:
        ServerError: nobody that is let in.
    """
    authenticator = app.state.authenticator
    reads = isinstance(authenticator, ProjectAuthenticator) and authenticator.reads_body
    if not reads or scope["type"] != "http" or IDENTIFIED in scope:
        return await identify(app, HTTPConnection(scope)), receive
    request = Request(scope, receive)
    principal = await identify(app, request)
    read: list[Message] = [{"type": "http.request", "body": await request.body(), "more_body": False}]

    async def again() -> Message:
        return read.pop() if read else await receive()

    return principal, again


class Guard:
    """Authenticates a request and holds it against the rule of its route."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    async def __call__(self, request: HTTPConnection) -> Caller:
        """Find the caller of a request, or refuse it."""
        state = request.app.state
        principal = await identify(request.app, request)
        allow(principal, self.rule)
        await state.tenants.welcome(principal.tenant)
        actor: Actor | None = request.scope.get(ACTOR)
        waiting = actor if actor is not None and actor.run_id is not None else None
        return Caller(principal, state.resources, request.headers, waiting)


def may(resource: Resource, action: Action) -> Any:
    """Annotation of the caller of a route that asks for this: `Annotated[Caller, may("threads", "read")]`."""
    return Depends(Guard(Rule(resource, action)))
