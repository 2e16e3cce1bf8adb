"""From a request to a principal by the authenticate handler of the project."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import inspect
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import structlog
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from ...tools.policy.permissions import Principal
from ..errors import Forbidden, ServerError, Unauthenticated
from ..runs.auth_config import AuthCache
from ..runs.project_auth import (
    DEFAULT_TENANT,
    SERVER,
    SERVER_ROLE,
    STUDIO_ROLE,
    ProjectAuth,
    in_time,
    refused,
)
from ..settings import AuthSettings
from .told_headers import ToldHeaders

log = structlog.get_logger(__name__)

STUDIO = Principal(tenant=DEFAULT_TENANT, subject="langgraph-studio-user", roles=frozenset({STUDIO_ROLE}))
"""The developer at the local Studio, whom no handler authenticates."""

ReadBody = Callable[[], Awaitable[Any]]
"""Reads the body of a request as JSON; None when it is none."""


class ProjectAuthenticator:
    """Calls the handler, and remembers what it said as far as `auth.cache` wants."""

    def __init__(self, project: ProjectAuth, settings: AuthSettings, *, studio: bool = False) -> None:
        self._handler = project.authenticate
        self._is_async = inspect.iscoroutinefunction(self._handler)
        self._parameters = project.parameters
        self._settings = settings
        self._studio = studio and not project.config.disable_studio_auth
        self._known = None if project.config.cache is None else KnownUsers(project.config.cache)

    @property
    def tenants(self) -> frozenset[str]:
        """Tenants that are known before any request."""
        return frozenset() if self._settings.tenant_key else frozenset({DEFAULT_TENANT})

    @property
    def own_principal(self) -> Principal:
        """As whom code of the project calls this server when it works for nobody, such as at start."""
        return SERVER

    @property
    def reads_body(self) -> bool:
        """Whether the handler wants to see the body of a request."""
        return not self._parameters.isdisjoint({"body", "request"})

    async def authenticate(self, connection: HTTPConnection, read_body: ReadBody) -> Principal:
        """Find who sent a request.

        Raises:
            Unauthenticated: the handler knows nobody.
            Forbidden: the user is of no tenant.
            ServerError: the handler refuses in its own words, or fails.
        """
        if self._studio and _is_local_studio(connection):
            return STUDIO
        key = None if self._known is None else self._known.key(connection)
        if self._known is not None and (known := self._known.get(key)) is not None:
            return known
        principal = self._principal(await self._call(connection, read_body))
        if self._known is not None:
            self._known.put(key, principal)
        return principal

    async def _call(self, connection: HTTPConnection, read_body: ReadBody) -> Any:
        body = await read_body() if self.reads_body else None
        given = {name: _PARAMETERS[name](connection) for name in self._parameters - {"body"}}
        if "body" in self._parameters:
            given["body"] = body
        try:
            async with in_time(self._settings.handler_timeout_s, "authenticate"):
                if self._is_async:
                    return await self._handler(**given)
                user = await asyncio.to_thread(self._handler, **given)
                return await user if inspect.isawaitable(user) else user
        except ServerError:
            raise
        except Exception as error:
            raise refused(error, handler="authenticate") from error

    def _principal(self, user: Any) -> Principal:
        if user is None:
            raise Unauthenticated("Unauthorized")
        try:
            fields = _fields(user)
            identity = fields.pop("identity", None)
            permissions = _texts("permissions", fields.pop("permissions", None) or ())
            if not isinstance(identity, str) or not identity:
                raise ValueError("a user must have an `identity`, which is text")
            return Principal(
                tenant=self._tenant(fields | {"identity": identity}),
                subject=identity,
                roles=self._roles(fields),
                permissions=permissions,
                attributes={"is_authenticated": True, **_storable(fields)},
            )
        except ValueError as error:
            log.error("auth_handler_failed", handler="authenticate", problem=str(error))
            raise ServerError("Internal Server Error") from error

    def _tenant(self, fields: Mapping[str, Any]) -> str:
        key = self._settings.tenant_key
        if not key:
            return DEFAULT_TENANT
        tenant = fields.get(key)
        if not isinstance(tenant, str) or not tenant:
            raise Forbidden(f"the user has no {key!r}, which names the tenant here")
        return tenant

    def _roles(self, fields: Mapping[str, Any]) -> frozenset[str]:
        key = self._settings.roles_key
        return (
            _texts(key, fields.get(key) or ()) - {SERVER_ROLE, STUDIO_ROLE} if key else frozenset({"member"})
        )


class KnownUsers:
    """Users that were authenticated a short time ago, the last used ones, by digest of their credentials."""

    def __init__(self, limits: AuthCache, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._users: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._users)

    def key(self, connection: HTTPConnection) -> bytes | None:
        """What tells the caller from others; None when it sent none of the headers that do."""
        given = [connection.headers.getlist(name) for name in self._limits.cache_keys]
        return hashlib.sha256(orjson.dumps(given)).digest() if any(given) else None

    def get(self, key: bytes | None) -> Principal | None:
        """Who it was, if that was a short time ago."""
        if key is None or key not in self._users:
            return None
        until, principal = self._users[key]
        if until <= self._clock():
            del self._users[key]
            return None
        self._users.move_to_end(key)
        return principal

    def put(self, key: bytes | None, principal: Principal) -> None:
        """Remember a user, and forget whoever was not seen for longest when there are too many."""
        if key is None:
            return
        self._users[key] = (self._clock() + self._limits.ttl_seconds, principal)
        self._users.move_to_end(key)
        while len(self._users) > self._limits.max_size:
            self._users.popitem(last=False)


_PARAMETERS: Mapping[str, Callable[[HTTPConnection], Any]] = {
    "request": lambda connection: connection,
    "path": lambda connection: connection.scope["path"],
    "method": lambda connection: connection.scope.get("method", "GET"),
    "path_params": lambda connection: dict(connection.path_params),
    "query_params": lambda connection: dict(connection.query_params),
    "headers": lambda connection: ToldHeaders(connection.scope["headers"]),
    "authorization": lambda connection: connection.headers.get("authorization"),
}


def _is_local_studio(connection: HTTPConnection) -> bool:
    """Whether a request is Studio's, from this machine and through nobody else.

    Its header proves nothing, so it counts only where the developer's own machine is asked.
    """
    headers = connection.headers
    if headers.get("x-auth-scheme") != "langsmith" or "x-forwarded-for" in headers or "forwarded" in headers:
        return False
    try:
        return connection.client is not None and ipaddress.ip_address(connection.client.host).is_loopback
    except ValueError:
        return False


def _fields(user: Any) -> dict[str, Any]:
    """What a user tells, whatever form it has."""
    match user:
        case str():
            return {"identity": str.__str__(user)}
        case Mapping():
            return {str(name): value for name, value in user.items()}
        case BaseModel():
            told = user.model_dump()
        case _ if dataclasses.is_dataclass(user) and not isinstance(user, type):
            told = {field.name: getattr(user, field.name) for field in dataclasses.fields(user)}
        case _:
            told = dict(getattr(user, "__dict__", {}))
    named = ("identity", "display_name", "is_authenticated", "permissions")
    properties = {name: getattr(user, name) for name in named if hasattr(user, name)}
    return {name: value for name, value in told.items() if not name.startswith("_")} | properties


def _texts(name: str, given: Any) -> frozenset[str]:
    if isinstance(given, str | bytes) or not all(isinstance(one, str) for one in given):
        raise ValueError(f"the {name} of a user must be a list of texts")
    return frozenset(given)


def _storable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What of a user can be stored with its runs, so that it reaches their nodes wherever those run."""
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        try:
            text = orjson.dumps({name: value}, default=_plain, option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:
            log.warning("user_field_left_out", field=name, problem=f"a {type(value).__name__} is not JSON")
            continue
        if b"\\u0000" in text:
            raise ValueError(f"{name!r} of a user holds the character NUL")
        kept |= orjson.loads(text)
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError
