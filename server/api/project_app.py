"""The application of a project, `http.app` in langgraph.json, served together with ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import NotFound, ServerError
from ..runs.acting import Actor, acting_for
from ..runs.user import RunUser
from ..settings import HttpSettings
from .callers import identify_early, is_open
from .problems import problem

log = structlog.get_logger(__name__)

_ANYWHERE = "/anywhere/at/all"
"""A path that only a route for every path would match."""


_WITHIN = "interlock.within"
"""Key of the scope of a request that the server makes itself; no client can set it."""


class ProjectAppFailed(Exception):
    """The lifespan of the project's application did not start."""


class ProjectApp:
    """The application of a project: its routes, its middleware, its lifespan."""

    def __init__(self, app: Starlette, api: FastAPI, http: HttpSettings, *, own: Actor) -> None:
        self.app = app
        self.own = own
        """As whom its code calls the server when it works for nobody: at start, and where it asks nobody."""
        self.middleware = list(app.user_middleware)
        """What wraps every request, outermost first."""
        # It wraps our routes too, so it must not wrap the project's a second time.
        app.user_middleware.clear()
        if not {500, Exception} & app.exception_handlers.keys():
            app.add_exception_handler(Exception, _failed)
        self._api = api
        self._http = http
        self._state: Mapping[str, Any] = {}
        self._own_pages = frozenset(_description_pages(app))

    @property
    def allows_origins(self) -> bool:
        """Whether its own middleware says which web pages may call; ours would say `all` over it."""
        return any(one.cls is CORSMiddleware for one in self.middleware)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Its lifespan.

        Raises:
            ProjectAppFailed: it did not start.
        """
        context = self.app.router.lifespan_context(self.app)
        try:
            with acting_for(self.own):
                self._state = await context.__aenter__() or {}
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            log.critical("project_app_failed", key="http.app", problem=f"its lifespan did not start: {cause}")
            raise ProjectAppFailed(f"the lifespan of `http.app` did not start: {cause}") from error
        try:
            yield
        except BaseException as error:
            with acting_for(self.own):
                handled = await context.__aexit__(type(error), error, error.__traceback__)
            if not handled:
                raise
        else:
            with acting_for(self.own):
                await context.__aexit__(None, None, None)

    def enter(self, scope: Scope) -> None:
        """Make a request one to the project's application, as its middleware expects it."""
        scope["app"] = self.app
        scope.setdefault("state", {}).update(self._state)

    def takes(self, scope: Scope) -> bool:
        """Whether a request is for a route of the project.

        Its routes come first, except before `/ok`. A route for every path, and a path of which it serves
        another method only, comes after ours.
        """
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if not root and self._http.mount_prefix:
            return False
        if (path.rstrip("/") == "/ok" and not self._http.disable_meta) or path in self._own_pages:
            return False
        last = False
        for route in self.app.router.routes:
            match route.matches(scope)[0]:
                case Match.FULL if not _is_for_every_path(route):
                    return True
                case Match.FULL | Match.PARTIAL:
                    last = True
                case Match.NONE:
                    pass
        return (last or self._takes_with_other_slash(scope)) and not self._is_ours(scope)

    def _takes_with_other_slash(self, scope: Scope) -> bool:
        """Whether its router would redirect the request to a route of its own."""
        path = scope["path"]
        other = {**scope, "path": path.rstrip("/") if path.endswith("/") else f"{path}/"}
        return self.app.router.redirect_slashes and any(
            route.matches(other)[0] is not Match.NONE for route in self.app.router.routes
        )

    def _is_ours(self, scope: Scope) -> bool:
        normal = {**scope, "path": normal_path(scope)}
        return any(route.matches(normal)[0] is Match.FULL for route in self._api.router.routes)


class Approach:
    """What a request passes before the middleware of the project."""

    def __init__(self, app: ASGIApp, *, project: ProjectApp, api: FastAPI, http: HttpSettings) -> None:
        self._app = app
        self._project = project
        self._api = api
        self._auth_first = http.middleware_order == "auth_first"
        self._protects_routes = http.enable_custom_route_auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self._project.enter(scope)
        if self._auth_first and self._asks(scope):
            try:
                _, receive = await identify_early(self._api, scope, receive)
            except ServerError as error:
                await refuse(error, scope, receive, send)
                return
        with acting_for(self._project.own):
            await self._app(scope, receive, send)

    def _asks(self, scope: Scope) -> bool:
        if self._project.takes(scope):
            return self._protects_routes
        return not is_open(normal_path(scope).removeprefix(scope.get("root_path", "")))


class Fork:
    """Where a request goes to a route of the project or to one of ours."""

    def __init__(self, app: ASGIApp, *, project: ProjectApp | None, api: FastAPI, http: HttpSettings) -> None:
        self._app = app
        self._project = project
        self._api = api
        self._protects_routes = http.enable_custom_route_auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if self._project is not None and self._project.takes(scope):
            await self._serve_theirs(self._project, scope, receive, send)
            return
        if _WITHIN in scope:
            await refuse(NotFound("`http.app` has no such route"), scope, receive, send)
            return
        scope["app"] = self._api
        scope["path"] = normal_path(scope)
        with acting_for(None):
            await self._app(scope, receive, send)

    async def _serve_theirs(self, project: ProjectApp, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._protects_routes:
            await _guarded(project, scope, receive, send)
            return
        try:
            principal, receive = await identify_early(self._api, scope, receive)
        except ServerError as error:
            await refuse(error, scope, receive, send)
            return
        scope["user"] = RunUser(principal)
        scope["auth"] = AuthCredentials(sorted(principal.permissions))
        with acting_for(Actor(principal)):
            await _guarded(project, scope, receive, send)


class Within:
    """Passes on what the server sends to the project's own routes; ours do not answer to it.

    A webhook names its path and carries the operator's headers: it must not act on the API in their name.
    """

    def __init__(self, api: ASGIApp, http: HttpSettings) -> None:
        self._api = api
        self._prefix = http.mount_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = self._prefix + scope["path"]
        await self._api({**scope, "path": path, _WITHIN: True}, receive, send)


def normal_path(scope: Scope) -> str:
    """The path without a slash at its end.

    Served, not redirected: a redirect makes some clients drop the body of a POST. The console is a
    folder, whose slash tells a browser what its relative links mean.
    """
    root = scope.get("root_path", "")
    path = scope["path"].removeprefix(root)
    return root + (path if path == "/console/" else path.rstrip("/") or "/")


async def refuse(error: ServerError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or the handshake of a web socket, with an error."""
    answer = problem(error)
    if scope["type"] == "http":
        await answer(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        start = {"type": "websocket.http.response.start", "status": answer.status_code}
        await send({**start, "headers": answer.raw_headers})
        await send({"type": "websocket.http.response.body", "body": answer.body})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})


async def _guarded(project: ProjectApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a route of the project; its crash is logged, and an answer that is complete stays one."""
    complete = False

    async def noted(message: Message) -> None:
        nonlocal complete
        await send(message)
        complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    try:
        await project.app(scope, receive, noted)
    except Exception as error:
        log.error("project_route_failed", path=scope["path"], exc_info=error)
        if not complete:
            raise


async def _failed(_: Request, __: Exception) -> Response:
    return problem(ServerError("Internal Server Error"))


def _description_pages(app: Starlette) -> Iterator[str]:
    """Paths of its own description, which ours includes: FastAPI's defaults, if it has them."""
    if isinstance(app, FastAPI):
        yield from {app.openapi_url or "", app.docs_url or ""} & {"/openapi.json", "/docs"}


def _is_for_every_path(route: BaseRoute) -> bool:
    pattern = getattr(route, "path_regex", None)
    return pattern is not None and pattern.match(_ANYWHERE) is not None
