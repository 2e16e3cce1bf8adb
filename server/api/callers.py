"""Who calls a route, and what the call may use: the one dependency that every route has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Path, Request
from starlette.requests import HTTPConnection

from ...checkpoints.database import Database
from ...tools.policy.permissions import Principal
from ..resources import Resources
from ..runs.acting import Actor
from ..runs.scope import Action, Resource, Rule, allow

IDENTIFIED = "interlock.principal"
"""Key of an ASGI scope under which the principal stands that was found before; no client can set it."""

ACTOR = "interlock.actor"
"""Key under which it stands for whom a call from inside the process is made."""

OPEN_PATHS = frozenset({"/", "/ok", "/info", "/metrics", "/openapi.json", "/docs"})
"""Paths of ours that nobody is asked for credentials on; and the console, which holds no data."""

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


async def identify(app: FastAPI, request: HTTPConnection) -> Principal:
    """Find who calls, once for each request.

    Raises:
        Unauthenticated: nobody that is known.
    """
    if IDENTIFIED not in request.scope:
        request.scope[IDENTIFIED] = app.state.authenticator.authenticate(request.headers)
    return request.scope[IDENTIFIED]


class Guard:
    """Authenticates a request and holds it against the rule of its route."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    async def __call__(self, request: Request) -> Caller:
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
