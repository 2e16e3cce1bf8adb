"""The project's own `langgraph_sdk.Auth` object: checked once at start, then asked about every operation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from langgraph_sdk import Auth
from langgraph_sdk.auth.types import StudioUser

from ...tools.policy.permissions import Principal
from ..errors import Forbidden, Refused, ServerError
from ..records.held import Held
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

    async def ask(self, principal: Principal, resource: str, action: str, value: dict[str, Any]) -> Held:
        """Let the most specific handler decide; it may change `value`. Without one all is allowed.

        Raises:
            Forbidden: it says no.
            Refused: it raised an `HTTPException`.
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
            answer = await handler(ctx=context, value=value)
        except Auth.exceptions.HTTPException as error:
            raise refused(error) from error
        except AssertionError as error:
            # `assert` is how the documentation of the SDK lets a handler refuse.
            raise Forbidden from error
        except Exception as error:
            log.exception("auth_handler_failed", resource=resource, action=action)
            raise ServerError("Internal Server Error") from error
        return _answered(answer, resource, action, value)

    def _handler(self, resource: str, action: str) -> Any:
        handlers = self.auth._handlers  # pyright: ignore[reportPrivateUsage]
        for place in ((resource, action), (resource, "*"), ("*", action)):
            if place in handlers:
                return handlers[place][-1]
        everything = self.auth._global_handlers  # pyright: ignore[reportPrivateUsage]
        return everything[-1] if everything else None


def refused(error: Auth.exceptions.HTTPException) -> ServerError:
    """The answer that a handler chose by raising; one that is no refusal is a fault of the handler."""
    if not 400 <= error.status_code <= 599:
        log.error("auth_handler_failed", problem=f"it raised an HTTPException with {error.status_code}")
        return ServerError("Internal Server Error")
    return Refused(str(error.detail), status=error.status_code, headers=dict(error.headers or {}))


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
