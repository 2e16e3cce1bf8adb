"""The project's own `langgraph_sdk.Auth` object: checked once at start, then asked about every operation."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from langgraph_sdk import Auth
from langgraph_sdk.auth.types import StudioUser

from ...tools.policy.permissions import Principal
from ..errors import Forbidden, Refused, ServerError, Unavailable
from ..records.held import Held
from .acting import Actor, acting_for
from .auth_config import AuthConfig
from .filters import BadFilter, held_by
from .user import RunUser

log = structlog.get_logger(__name__)

INJECTED = frozenset(
    {"request", "body", "path", "method", "path_params", "query_params", "headers", "authorization"}
)
"""What an authenticate handler may ask for, by the names of its parameters."""

STUDIO_ROLE = "studio"
"""Marks the developer at the local Studio; no authenticate handler can give it."""

SERVER_ROLE = "server"
"""Marks the server itself, where code of the project calls it and works for nobody: no handler is asked."""

DEFAULT_TENANT = "default"
SERVER = Principal(tenant=DEFAULT_TENANT, subject="server", roles=frozenset({SERVER_ROLE}))
"""As whom handlers call the server they decide for."""


class AuthInvalid(Exception):
    """What `auth` in langgraph.json names cannot be used."""


@dataclass(frozen=True, slots=True)
class ProjectAuth:
    """A checked `Auth` object and how it is used."""

    auth: Auth
    config: AuthConfig
    parameters: frozenset[str] = field(init=False)
    """What its authenticate handler is given."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            AuthInvalid: it is no `Auth` object, or its authenticate handler cannot be called.
        """
        object.__setattr__(self, "parameters", _checked(self.auth))

    @property
    def authenticate(self) -> Any:
        """The authenticate handler."""
        return self.auth._authenticate_handler  # pyright: ignore[reportPrivateUsage] - the SDK's server API

    async def ask(
        self, principal: Principal, resource: str, action: str, value: dict[str, Any], *, timeout_s: float
    ) -> Held:
        """Let the most specific handler decide; it may change `value`. Without one all is allowed.

        Raises:
            Forbidden: it says no.
            Refused: it raised an `HTTPException`.
            Unavailable: it did not answer in time.
            ServerError: it failed, or returned something that is no answer.
        """
        handler = self._handler(resource, action)
        if handler is None or SERVER_ROLE in principal.roles:
            return None
        context = Auth.types.AuthContext(
            permissions=sorted(principal.permissions),
            user=_user(principal),
            resource=resource,  # pyright: ignore[reportArgumentType] - one of a closed set
            action=action,  # pyright: ignore[reportArgumentType]
        )
        try:
            async with in_time(timeout_s, f"{resource}.{action}"):
                answer = await handler(ctx=context, value=value)
        except ServerError:
            raise
        except AssertionError as error:
            # `assert` is how the documentation of the SDK lets a handler refuse.
            raise Forbidden from error
        except Exception as error:
            raise refused(error, handler=f"{resource}.{action}") from error
        return _answered(answer, resource, action, value)

    def _handler(self, resource: str, action: str) -> Any:
        handlers = self.auth._handlers  # pyright: ignore[reportPrivateUsage]
        for place in ((resource, action), (resource, "*"), ("*", action)):
            if place in handlers:
                return handlers[place][-1]
        everything = self.auth._global_handlers  # pyright: ignore[reportPrivateUsage]
        return everything[-1] if everything else None


def refused(error: Exception, *, handler: str) -> ServerError:
    """The answer that a handler chose by raising.

    That is an `HTTPException` of the SDK, or one of a web framework, which is easily taken for it. Another
    exception is a fault of the handler, and so is one with a status that is no refusal.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        log.error("auth_handler_failed", handler=handler, exc_info=error)
        return ServerError("Internal Server Error")
    headers = dict(getattr(error, "headers", None) or {})
    return Refused(str(getattr(error, "detail", error)), status=int(status), headers=headers)


@asynccontextmanager
async def in_time(timeout_s: float, handler: str) -> AsyncIterator[None]:
    """Let a handler act for the server, and wait for it, but not for ever.

    Raises:
        Unavailable: it did not answer in time.
    """
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            with acting_for(Actor(SERVER)):
                yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        log.error("auth_handler_timed_out", handler=handler, after_s=timeout_s)
        raise Unavailable("whoever decides about this request does not answer; try again later") from error


def _user(principal: Principal) -> Any:
    if STUDIO_ROLE in principal.roles:
        return StudioUser(principal.subject, is_authenticated=True)
    return RunUser(principal)


def _answered(answer: Any, resource: str, action: str, value: dict[str, Any]) -> Held:
    if answer is False:
        raise Forbidden
    try:
        if "metadata" in value:
            value["metadata"] = _storable(value["metadata"])
        if answer is None or answer is True:
            return None
        if not isinstance(answer, Mapping):
            raise BadFilter(f"it returned a {type(answer).__name__}, not None, a boolean or a filter")
        held = held_by(answer)
        if held is not None and resource == "store":
            raise BadFilter('items of the store have no metadata to filter by; set `value["namespace"]`')
    except BadFilter as error:
        log.error("auth_handler_failed", resource=resource, action=action, problem=str(error))
        raise ServerError("Internal Server Error") from error
    return held


def _storable(metadata: Any) -> dict[str, Any]:
    """What a handler left as metadata, as JSON."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise BadFilter("it left metadata that are no mapping")
    try:
        text = orjson.dumps(dict(metadata))
    except orjson.JSONEncodeError as error:
        raise BadFilter(f"it left metadata that are not JSON: {error}") from error
    if b"\\u0000" in text:
        raise BadFilter("it left metadata with the character NUL")
    return orjson.loads(text)


def _checked(auth: Any) -> frozenset[str]:
    if not isinstance(auth, Auth):
        raise AuthInvalid(f"it is a {type(auth).__name__}, not a `langgraph_sdk.Auth`")
    handler = auth._authenticate_handler  # pyright: ignore[reportPrivateUsage]
    if handler is None:
        raise AuthInvalid("it has no authenticate handler; decorate a function with `@auth.authenticate`")
    known = ", ".join(sorted(INJECTED))
    wanted: set[str] = set()
    for name, parameter in inspect.signature(handler).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in INJECTED and parameter.kind is not parameter.POSITIONAL_ONLY:
            wanted.add(name)
        elif parameter.default is parameter.empty:
            raise AuthInvalid(
                f"its authenticate handler has a parameter {name!r} that is not known; known are {known}"
            )
    return frozenset(wanted)


def checked_auth(config: AuthConfig, value: Any) -> ProjectAuth | None:
    """The value of `auth.path`, if it can be used.

    Raises:
        AuthInvalid: it cannot.
    """
    return None if value is None else ProjectAuth(value, config)
