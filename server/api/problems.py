"""Every refusal and failure as the same JSON: `{"detail": text, "code": word}`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from ...checkpoints.errors import Conflict, DatabaseUnavailable, FenceLost, SealingFailed
from ..errors import Conflicting, Invalid, Refused, ServerError, Unavailable
from ..runs.encryption import EncryptionFailed
from .routes import served_routes

log = structlog.get_logger(__name__)

_IDS = {"thread_id": "thread", "run_id": "run", "assistant_id": "assistant", "review_id": "review"}


def problem(error: ServerError) -> Response:
    """The answer that tells a client what went wrong."""
    return _render(error.status, error.message, error.code, headers_of(error))


def headers_of(error: ServerError) -> dict[str, str] | None:
    """What a client is told besides, in whatever form it is told the error."""
    if isinstance(error, Refused):
        return dict(error.headers)
    return {"retry-after": "1"} if isinstance(error, Unavailable) else None


def unexpected(error: Exception) -> Response:
    """The answer to a fault of ours."""
    return problem(unforeseen(error))


def unforeseen(error: Exception) -> ServerError:
    """What a client is told of a fault of ours: that it happened. The log learns what."""
    if isinstance(error, DatabaseUnavailable):
        log.warning("database_unavailable", error=str(error))
        return Unavailable()
    if isinstance(error, Conflict | FenceLost):
        log.warning("write_conflict", error=str(error))
        return Conflicting("somebody else changed this at the same time; read it and try again")
    if isinstance(error, SealingFailed):
        log.warning("encryption_failed", error=str(error))
        return EncryptionFailed(str(error), status=error.status)
    log.error("request_failed", exc_info=error)
    return ServerError("Internal Server Error")


def first_fault(error: RequestValidationError | ValidationError) -> Invalid:
    """The first fault of a body, a query or a path, in one sentence."""
    fault = error.errors()[0]
    place = [str(part) for part in fault["loc"]]
    if place[:1] == ["path"] and place[-1] in _IDS and fault["type"].startswith("uuid"):
        return Invalid(f"Invalid {_IDS[place[-1]]} ID: must be a UUID")
    where = ".".join(place[1:] if place[:1] in (["query"], ["path"], ["header"]) else place)
    text = fault["msg"].removeprefix("Value error, ")
    return Invalid(f"{where}: {text}" if where else text)


def install(app: FastAPI, *, unroutable_by: Callable[[Request], Awaitable[None]]) -> None:
    """Render the errors of every route alike. `unroutable_by` refuses whoever may not know the routes."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServerError)
        return problem(error)

    async def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError | ValidationError)
        return problem(first_fault(error))

    async def unroutable(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        try:
            await unroutable_by(request)
        except ServerError as refusal:
            return problem(refusal)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # The framework names those of the first route alone.
            headers["allow"] = ", ".join(sorted(_methods_of(app, request))) or headers.get("allow", "")
        return _render(error.status_code, error.detail, code, headers)

    app.add_exception_handler(ServerError, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(ValidationError, malformed)
    app.add_exception_handler(HTTPException, unroutable)


def _methods_of(app: FastAPI, request: Request) -> set[str]:
    """Every method that the path of a request is served by."""
    matching = (route for route in served_routes(app) if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in route.methods or ()}


def _render(status: int, detail: str, code: str, headers: object = None) -> Response:
    body = orjson.dumps({"detail": detail.encode(errors="replace").decode(), "code": code})
    given = dict(headers) if isinstance(headers, dict) else None
    return Response(body, status_code=status, headers=given, media_type="application/json")
