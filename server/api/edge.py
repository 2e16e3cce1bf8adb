"""The outermost layer of every request: its id, its clock, and the answer when something broke."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from ..settings import HttpSettings
from ..telemetry import hide_secrets
from .headers import chosen
from .problems import unexpected

log = structlog.get_logger(__name__)

Observe = Callable[[str, str, int, float], None]
"""Called with method, route, status and seconds when a response is complete."""

_NOWHERE = "/not-below-the-mount-prefix"
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")


class Edge:
    """Pure ASGI, so that a stream passes through it byte by byte."""

    def __init__(self, app: ASGIApp, *, observe: Observe, http: HttpSettings) -> None:
        self._app = app
        self._observe = observe
        self._prefix = http.mount_prefix
        self._logged = http.logging_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "lifespan":
            _place_below(scope, self._prefix)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            if exchange.status is not None:
                raise
            await unexpected(error)(scope, receive, exchange.send)
        finally:
            structlog.contextvars.unbind_contextvars("request_id")
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - started
            self._observe(scope["method"], route, exchange.status or 499, seconds)
            if self._logged.includes:
                self._log(scope, exchange, seconds)

    def _log(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        given = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        log.info(
            "request",
            request_id=exchange.request_id,
            method=scope["method"],
            path=scope["path"],
            status=exchange.status or 499,
            seconds=round(seconds, 3),
            headers=hide_secrets(log, "info", chosen(given, self._logged)),
        )


class _Exchange:
    """One request and the headers that its response gets from us."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send: Callable[[Message], Awaitable[None]] = send
        self.status: int | None = None
        self.request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            if warning := self._scope["state"].get("warning"):
                headers["x-interlock-warning"] = warning
        await self._send(message)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if _REQUEST_ID.match(given):
                return given
    return str(uuid7())


def _place_below(scope: Scope, prefix: str) -> None:
    """Tell routes what stands before them, or that a path is none of this server's."""
    path = scope["path"]
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        scope["root_path"] = prefix
    elif prefix and path != "/ok":
        scope["path"] = _NOWHERE
