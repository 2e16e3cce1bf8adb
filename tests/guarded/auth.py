"""Lets in whoever sends `Bearer TENANT:NAME[:PERMISSION,…]`, and keeps what each one makes to it.

A permission `deny:threads.read` makes the handlers refuse that; `ask:NAME` makes them answer as NAME says.
"""

import json
import os
from pathlib import Path
from typing import Any

from langgraph_sdk import Auth

auth = Auth()
asked: list[tuple[str, str, str, dict[str, Any]]] = []
"""Identity, resource, action and value of every question, as it was before a handler changed it."""
ANSWERS: dict[str, Any] = {}
"""What a handler returns for a permission `ask:NAME`."""

if notes := os.environ.get("AUTH_NOTES"):
    with Path(notes).open("a") as file:
        file.write("loaded\n")


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes], authorization: str | None) -> dict[str, Any]:
    if authorization is None:
        raise Auth.exceptions.HTTPException(detail="who is there?", headers={"www-authenticate": "Bearer"})
    if authorization == "Bearer broken":
        raise RuntimeError("the secret is 4711")
    tenant, name, *permissions = authorization.removeprefix("Bearer ").split(":", 2)
    return {
        "identity": name,
        "display_name": name.title(),
        "permissions": permissions[0].split(",") if permissions else [],
        "org": tenant,
        "token": f"secret of {name}",
        "colour": headers.get(b"x-colour", b"none").decode(),
    }


def judged(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    asked.append((ctx.user.identity, ctx.resource, ctx.action, dict(value)))
    if notes:
        told = {"who": ctx.user.identity, "what": f"{ctx.resource}.{ctx.action}", "keys": sorted(value)}
        with Path(notes).open("a") as file:
            file.write(json.dumps(told) + "\n")
    if f"deny:{ctx.resource}.{ctx.action}" in ctx.permissions:
        return False
    for permission in ctx.permissions:
        if permission.startswith("ask:"):
            return ANSWERS[permission.removeprefix("ask:")](ctx, value)
    return None


@auth.on
async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    answer = judged(ctx, value)
    if answer is not None:
        return answer
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


@auth.on.store
async def own_memories(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    answer = judged(ctx, value)
    value["namespace"] = (ctx.user["identity"], *(value["namespace"] or ()))
    return answer
