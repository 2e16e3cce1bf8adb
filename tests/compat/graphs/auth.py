"""Two users, who show a signed token; each one has what its scopes say, and sees nothing of the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jwt
from langgraph_sdk import Auth

KEY = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"
"""What the tokens of the suite are signed with."""
PERMISSIONS = frozenset({"read", "write", "assistants:write", "me"})
USERS = {
    "johndoe": {"identity": "johndoe", "full_name": "John Doe", "email": "johndoe@example.com"},
    "alice": {"identity": "alice", "full_name": "Alice Chains", "email": "alicechains@example.com"},
}

auth = Auth()


def refused() -> Auth.exceptions.HTTPException:
    return Auth.exceptions.HTTPException(status_code=403, detail="Not authorized")


def require(ctx: Auth.types.AuthContext, any_of: Iterable[str]) -> None:
    if not set(ctx.permissions).intersection(any_of):
        raise refused()


def owned(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    value["metadata"] = {**(value.get("metadata") or {}), "owner": ctx.user.identity}


@auth.authenticate
async def authenticate(authorization: str | None) -> dict[str, Any]:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise Auth.exceptions.HTTPException(
            detail="Could not validate credentials", headers={"www-authenticate": "Bearer"}
        )
    try:
        claims = jwt.decode(token, KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError as error:
        raise Auth.exceptions.HTTPException(detail="Failed to verify JWT token") from error
    user = USERS.get(claims.get("sub", ""))
    if user is None:
        raise Auth.exceptions.HTTPException(detail="Could not validate credentials")
    return {**user, "permissions": [scope for scope in claims.get("scopes", ()) if scope in PERMISSIONS]}


@auth.on
async def anything_else(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    if not ctx.permissions:
        raise refused()


@auth.on.assistants.create
async def make_assistant(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    require(ctx, {"assistants:write"})
    owned(ctx, value)


@auth.on.assistants.search
async def find_assistants(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, Any]:
    return {"owner": ctx.user.identity}


@auth.on(resources=["threads", "assistants"])
async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, Any]:
    if ctx.action in ("create", "update", "create_run"):
        owned(ctx, value)
    return {"owner": ctx.user.identity}


@auth.on.threads.create
async def make_thread(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, Any]:
    require(ctx, {"me", "threads:write", "threads:*"})
    owned(ctx, value)
    return {"owner": ctx.user.identity}


@auth.on.store
async def own_items(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    if not ctx.permissions:
        raise refused()
    namespace = value["namespace"] = tuple(value.get("namespace") or (ctx.user.identity,))
    if ctx.user.identity not in namespace:
        raise refused()
